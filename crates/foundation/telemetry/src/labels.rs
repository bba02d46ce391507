//! The values that labels take.

/// A label value of a closed set.
pub trait Label: Copy + Send + Sync + 'static {
    /// Every value, in the order of declaration.
    const ALL: &'static [Self];
    /// The label's name.
    const NAME: &'static str;

    /// The value's text.
    fn as_str(self) -> &'static str;

    /// The value's place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $type:ident as $name:literal { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$value_doc])* $value,)+
        }

        impl Label for $type {
            const ALL: &'static [Self] = &[$(Self::$value),+];
            const NAME: &'static str = $name;

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// How a decision ended.
    DecisionOutcome as "outcome" {
        /// Allowed.
        Allow = "allow",
        /// Denied by identity, delegation, policy or an error.
        Deny = "deny",
        /// Held for a person.
        RequiresOversight = "requires_oversight",
        /// A budget does not cover it.
        QuotaExceeded = "quota_exceeded",
        /// Too many in a short time.
        RateLimited = "rate_limited",
    }
}

label! {
    /// The class of a record in the log.
    LeafClass as "class" {
        /// Durable before its effect.
        Evidence = "evidence",
        /// Batched.
        Trace = "trace",
    }
}

label! {
    /// What happened to a reservation.
    ReservationEvent as "event" {
        /// Made, and durable.
        Granted = "granted",
        /// Settled with what was really used.
        Settled = "settled",
        /// Given back unused.
        Released = "released",
        /// Given back because its time ran out.
        Expired = "expired",
    }
}

label! {
    /// How far a limit was used when it was notified.
    LimitNotice as "level" {
        /// A threshold below the limit.
        Approached = "approached",
        /// The limit, or a threshold above it.
        Reached = "reached",
    }
}

label! {
    /// Why a sandbox ended.
    SandboxExit as "reason" {
        /// Its program ended by itself.
        Exited = "exited",
        /// A signal ended it.
        Signaled = "signaled",
        /// It ran out of memory.
        OutOfMemory = "out_of_memory",
        /// It ran out of time.
        TimedOut = "timed_out",
        /// It was told to end.
        Killed = "killed",
        /// Its runtime cannot say.
        Lost = "lost",
    }
}

label! {
    /// What the egress gateway did with a connection or a name.
    EgressVerdict as "verdict" {
        /// Let through.
        Allowed = "allowed",
        /// Refused.
        Refused = "refused",
    }
}

label! {
    /// The state that an oversight request entered.
    OversightState as "state" {
        /// Waits for a person.
        Pending = "pending",
        /// A person approved it.
        Approved = "approved",
        /// A person denied it.
        Denied = "denied",
        /// Nobody decided in time.
        Expired = "expired",
    }
}

label! {
    /// What became of a change of the policy directory.
    PolicyReload as "result" {
        /// Put in force.
        Loaded = "loaded",
        /// Refused; what was in force stayed so.
        Refused = "refused",
    }
}

label! {
    /// What became of the lists of algorithms, when the server was told to read them anew.
    AlgorithmReload as "result" {
        /// Put in force, or in force already.
        Loaded = "loaded",
        /// Refused; what was in force stayed so.
        Refused = "refused",
    }
}

label! {
    /// What a candidate set of policies said beside those in force.
    PolicyShadow as "result" {
        /// The same.
        Same = "same",
        /// Another outcome.
        Different = "different",
        /// It was not asked: too much was decided at once.
        Dropped = "dropped",
    }
}
