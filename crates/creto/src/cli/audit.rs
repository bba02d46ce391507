//! `creto audit`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use creto_server::CosignatureType;
use creto_types::Timestamp;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the log's signed head
    Checkpoint,
    /// Print one leaf with its proof
    Leaf {
        /// Its index, from zero
        index: u64,
    },
    /// Find records by who, what, which outcome and when, the newest first
    ///
    /// What is given has to be so all at once. A page is at most --limit records; it
    /// says how the next one is asked for.
    ///
    /// Example: creto audit search --member planner --outcome deny --since
    /// 2026-01-31T00:00:00Z
    Search(SearchArgs),
    /// Print the proof of one leaf alone, as C2SP tlog-proof, for `check-proof` and others
    Prove {
        /// Its index, from zero
        leaf: u64,
        /// The file to write the leaf itself to; it must not exist
        #[arg(long, value_name = "FILE")]
        leaf_to: Option<PathBuf>,
        /// The file to write what the leaf commits to, salt and payload; it must not exist
        #[arg(long, value_name = "FILE")]
        opening_to: Option<PathBuf>,
    },
    /// Check a proof with public keys alone, without a server
    ///
    /// Shows that the leaf is in the log that the key is of, in a state that the
    /// witnesses have cosigned.
    ///
    /// Example: creto audit check-proof 7.tlog-proof --leaf 7.json --key 'VKEY'
    CheckProof(CheckProofArgs),
    /// Print the proof that the log of one size continues the one of an earlier size
    Consistency {
        /// The earlier size
        #[arg(long, value_name = "SIZE")]
        from: u64,
        /// The later size [default: the newest]
        #[arg(long, value_name = "SIZE")]
        to: Option<u64>,
    },
    /// Print the log's verifier keys, which monitors and witnesses are given
    Keys,
    /// Write the evidence bundle, for `creto verify`
    ///
    /// With any of the filters it holds what only those records say that are all of what
    /// is given. Every leaf and proof is there all the same, and `creto verify` says how
    /// many records are not disclosed.
    ///
    /// Example: creto audit export bundle --member planner --since 2026-01-31T00:00:00Z
    Export {
        /// The directory to write; it must not exist. Until the bundle is whole it is DIR.partial
        dir: PathBuf,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Print every record of one action, from the decision to the settlement
    Action {
        /// The action, for example act_0192...
        action: String,
    },
    /// Follow somebody's log from outside, and raise an alarm when it misbehaves
    ///
    /// Needs no server and no credential: it reads the public files of any log that
    /// speaks C2SP tlog-tiles. Each checkpoint is checked against the key, and against
    /// the one before. A fork, a tree that shrinks, a bad signature or files that
    /// contradict the checkpoint end it with exit status 3 and both checkpoints, which
    /// are the proof. A log that shows a checkpoint and not the files it is checked by,
    /// for longer than --withheld-after, ends it with 4; one that shows no checkpoint
    /// that the witnesses have cosigned, for longer than --uncosigned-after, with 5. A
    /// server that cannot be reached is said to be so and is no alarm.
    ///
    /// Example: creto audit watch http://127.0.0.1:7182/log/org_0192... --key 'VKEY'
    /// --state seen.json --once
    Watch(WatchArgs),
    /// Cosign other logs: serve C2SP tlog-witness until told to stop
    ///
    /// Cosigns a checkpoint only when its log signed it and it is shown to continue the
    /// one cosigned before; what was cosigned is remembered, durably, before the answer.
    Witness(WitnessArgs),
    /// Make the key of a witness, and print the verifier key that logs configure
    WitnessKey {
        /// The witness's name: a URL without scheme, for example witness.example/w1
        name: String,
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// By which it cosigns. ML-DSA-44 holds against quantum computers; Ed25519 is for logs
        /// and readers that know no other
        #[arg(
            long,
            value_enum,
            value_name = "ALGORITHM",
            default_value = "ML-DSA-44"
        )]
        algorithm: CosignerAlgorithm,
    },
}

/// The algorithms of C2SP tlog-cosignature.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CosignerAlgorithm {
    #[value(name = "ML-DSA-44")]
    MlDsa44,
    #[value(name = "Ed25519")]
    Ed25519,
}

impl From<CosignerAlgorithm> for CosignatureType {
    fn from(algorithm: CosignerAlgorithm) -> Self {
        match algorithm {
            CosignerAlgorithm::MlDsa44 => Self::MlDsa44,
            CosignerAlgorithm::Ed25519 => Self::Ed25519,
        }
    }
}

/// What records have to say, all at once.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Who did it, or the agent that the record is about
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Somebody in the chain of delegations behind it, or the id of one of them
    #[arg(long, value_name = "NAME")]
    pub(crate) member: Option<String>,
    /// The name of an action, for example release.publish
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// The id of a resource, for example repo:creto; one with a type also as TYPE::ID
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) resource: Option<String>,
    /// What was decided, for example deny
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) outcome: Option<String>,
    /// The kind of the record, for example action.decided
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Only what was recorded since then
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Only what was recorded before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Go on behind the page that printed this
    #[arg(long, value_name = "LEAF")]
    pub(crate) after: Option<u64>,
    /// How many records at most
    #[arg(long, value_name = "NUMBER", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) limit: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CheckProofArgs {
    /// The file with the proof, C2SP tlog-proof
    pub(crate) proof: PathBuf,
    /// The file with the leaf, as `prove --leaf-to` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) leaf: PathBuf,
    /// The file with what the leaf commits to, as `prove --opening-to` writes it: prints
    /// the record
    #[arg(long, value_name = "FILE")]
    pub(crate) opening: Option<PathBuf>,
    /// The log's verifier key
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: String,
    /// The verifier key of a witness that is trusted; once for each
    #[arg(long = "witness", value_name = "VKEY")]
    pub(crate) witnesses: Vec<String>,
    /// How many of the witnesses must have cosigned [default: all that are named]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) quorum: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The log's prefix: its checkpoint is at URL/checkpoint
    pub(crate) url: String,
    /// The log's verifier key, NAME+ID+KEY. Without it only the history is compared,
    /// whoever signs it
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: Option<String>,
    /// The file to remember the last checkpoint in
    #[arg(long, value_name = "FILE")]
    pub(crate) state: PathBuf,
    /// Fetch every entry too, and check that they lead to the signed root
    #[arg(long)]
    pub(crate) entries: bool,
    /// Look once and end
    #[arg(long)]
    pub(crate) once: bool,
    /// The verifier key of a witness that has to cosign, NAME+ID+KEY; once for each
    #[arg(long = "witness", value_name = "VKEY")]
    pub(crate) witnesses: Vec<String>,
    /// How many of the witnesses have to cosign [default: all that are named]
    #[arg(long, value_name = "NUMBER", requires = "witnesses")]
    pub(crate) witness_quorum: Option<usize>,
    /// For how many seconds files may be missing that a checkpoint is checked by. Counted
    /// from the first look that misses them, over restarts too
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub(crate) withheld_after: u64,
    /// For how many seconds no checkpoint may be shown that enough witnesses have
    /// cosigned. Counted in the same way
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub(crate) uncosigned_after: u64,
    /// How many seconds lie between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval: u64,
}

#[derive(Debug, Args)]
pub(crate) struct WitnessArgs {
    /// The address and port to listen on
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The file with the witness's key, as `creto audit witness-key` writes it; may be
    /// repeated, and each key cosigns
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub(crate) keys: Vec<PathBuf>,
    /// The directory to remember in what was cosigned; losing it is losing the witness
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// The verifier key of a log to cosign; once for each key of each log
    #[arg(long = "log", value_name = "VKEY", required = true)]
    pub(crate) logs: Vec<String>,
}
