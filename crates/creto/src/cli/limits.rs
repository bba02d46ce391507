//! `creto limit` and `creto rate`.

use clap::{Args, Subcommand, ValueEnum};
use creto_types::{PrincipalName, Quantity};

#[derive(Debug, Subcommand)]
pub(crate) enum LimitCommand {
    /// Set a limit, in place of the one with its subject, event, measure and window
    ///
    /// Example: creto limit set '500 units' --agent release-bot --window daily
    /// --time-zone Europe/Berlin
    Set(LimitArgs),
    /// List the limits that were set, with what is left of them
    List,
    /// End a limit
    Remove {
        /// The limit, for example lim_0192...
        limit: String,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
pub(crate) struct LimitArgs {
    /// The most in one window: '5.00 USD' or '1000 units'
    pub(crate) limit: Quantity,
    /// On everything this agent does
    #[arg(long, value_name = "NAME", group = "subject")]
    pub(crate) agent: Option<PrincipalName>,
    /// On what is done under this delegation and below it
    #[arg(long, value_name = "ID", group = "subject")]
    pub(crate) delegation: Option<String>,
    /// On the whole organization
    #[arg(long, group = "subject")]
    pub(crate) organization: bool,
    /// Count this action alone
    #[arg(long, value_name = "ACTION")]
    pub(crate) event: Option<String>,
    /// When it starts anew
    #[arg(long, value_enum, default_value_t = WindowArgument::Total)]
    pub(crate) window: WindowArgument,
    /// The IANA time zone of the window, for example Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// What happens to a call that does not fit
    #[arg(long, value_enum, default_value_t = ExceedArgument::Block)]
    pub(crate) on_exceed: ExceedArgument,
    /// How much is still granted above a blocking limit, marked as overage
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) grace: Option<Quantity>,
    /// Notify at these percents [default: 80,100]
    #[arg(long, value_name = "PERCENT", value_delimiter = ',')]
    pub(crate) thresholds: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WindowArgument {
    /// At each full hour
    Hourly,
    /// At the start of each day
    Daily,
    /// With each month
    Monthly,
    /// Never
    Total,
}

impl WindowArgument {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Monthly => "monthly",
            Self::Total => "total",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExceedArgument {
    /// It is refused
    Block,
    /// It is granted and marked as overage
    AllowWithOverage,
    /// It is granted and nothing is marked; the limit is there for its thresholds
    NotifyOnly,
}

impl ExceedArgument {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::AllowWithOverage => "allow_with_overage",
            Self::NotifyOnly => "notify_only",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RateCommand {
    /// Set a rate, in place of the one with its subject and event
    ///
    /// Example: creto rate set --agent release-bot --per-second 5 --burst 10
    ///
    /// Example: creto rate set --organization --event release.publish --per-hour 4 --burst 1
    Set(RateArgs),
    /// List the rates that were set
    List,
    /// End a rate
    Remove {
        /// The rate, for example rat_0192...
        rate: String,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("callers").required(true))]
#[command(group = clap::ArgGroup::new("pace").required(true))]
pub(crate) struct RateArgs {
    /// Of this agent's calls
    #[arg(long, value_name = "NAME", group = "callers")]
    pub(crate) agent: Option<PrincipalName>,
    /// Of each agent's calls, unless it has a rate of its own
    #[arg(long, group = "callers")]
    pub(crate) every_agent: bool,
    /// Of all calls of the organization together
    #[arg(long, group = "callers")]
    pub(crate) organization: bool,
    /// Count calls of this action alone
    #[arg(long, value_name = "ACTION")]
    pub(crate) event: Option<String>,
    /// Calls a second in the long run
    #[arg(long, value_name = "N", group = "pace")]
    pub(crate) per_second: Option<std::num::NonZeroU32>,
    /// Calls a minute in the long run
    #[arg(long, value_name = "N", group = "pace")]
    pub(crate) per_minute: Option<std::num::NonZeroU32>,
    /// Calls an hour in the long run
    #[arg(long, value_name = "N", group = "pace")]
    pub(crate) per_hour: Option<std::num::NonZeroU32>,
    /// Calls that may come at once after a pause
    #[arg(long, value_name = "N")]
    pub(crate) burst: std::num::NonZeroU32,
}
