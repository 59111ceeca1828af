//! The arguments of `ordu admin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Admin {
    #[command(subcommand)]
    pub(crate) what: AdminCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Accounts.
    User {
        #[command(subcommand)]
        what: UserCommand,
    },
    /// Workers.
    Worker {
        #[command(subcommand)]
        what: WorkerCommand,
    },
    /// Prompt filters.
    Filter {
        #[command(subcommand)]
        what: FilterCommand,
    },
    /// Addresses that are shut out.
    Ip {
        #[command(subcommand)]
        what: IpCommand,
    },
    /// Styles.
    Style {
        #[command(subcommand)]
        what: StyleCommand,
    },
    /// Write everything into one file, while the horde runs or not.
    Backup(Backup),
    /// Put a backup into an empty data folder or database.
    Restore(Restore),
    /// Take over an existing horde.
    Import {
        #[command(subcommand)]
        what: ImportCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make an account and print its key, once.
    Add(UserAdd),
    /// Show an account.
    Show(UserShow),
    /// Change an account.
    Set(UserSet),
    /// Give an account a new key; the old one stops working.
    NewKey(UserShow),
    /// List accounts, 25 on a page.
    List(UserList),
}

/// The store that an admin command works on.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminStore {
    /// The data folder.
    #[arg(
        long,
        env = "ORDU_DATA",
        default_value = "./ordu-data",
        value_name = "DIR"
    )]
    pub(crate) data: PathBuf,

    /// `sqlite:///FILE` or `postgres://…` instead of the data folder's database.
    #[arg(
        long,
        env = "ORDU_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) database: Option<String>,

    /// The secret that salts stored keys, instead of the one in the data folder.
    #[arg(
        long,
        env = "ORDU_SECRET_KEY",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) secret_key: Option<String>,

    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// The account's name.
    #[arg(long)]
    pub(crate) name: String,

    /// Make it a moderator.
    #[arg(long)]
    pub(crate) moderator: bool,

    /// Trust it.
    #[arg(long)]
    pub(crate) trusted: bool,

    /// What it starts with.
    #[arg(long, default_value_t = 0.0, value_name = "KUDOS")]
    pub(crate) kudos: f64,
}

#[derive(Debug, Args)]
pub(crate) struct UserShow {
    /// The account's number or alias.
    pub(crate) user: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,
}

#[derive(Debug, Args)]
pub(crate) struct UserSet {
    /// The account's number or alias.
    pub(crate) user: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// A new name.
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Whether it is a moderator.
    #[arg(long, value_name = "BOOL")]
    pub(crate) moderator: Option<bool>,

    /// Whether it is trusted.
    #[arg(long, value_name = "BOOL")]
    pub(crate) trusted: Option<bool>,

    /// Whether it is flagged.
    #[arg(long, value_name = "BOOL")]
    pub(crate) flagged: Option<bool>,

    /// Add so many kudos; negative takes away.
    #[arg(long, value_name = "KUDOS", allow_negative_numbers = true)]
    pub(crate) add_kudos: Option<f64>,

    /// How many results it may have in the queue.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=500))]
    pub(crate) concurrency: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct UserList {
    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// What comes first.
    #[arg(long, value_enum, default_value_t = UserOrder::Kudos)]
    pub(crate) sort: UserOrder,

    /// Which page, from 1.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) page: u32,
}

/// The order of accounts.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum UserOrder {
    /// The richest.
    Kudos,
    /// The oldest.
    Age,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// List workers.
    List(WorkerList),
    /// Show a worker.
    Show(WorkerShow),
    /// Give a worker no jobs any more, without its noticing.
    Pause(WorkerSwitch),
    /// Let a worker serve only its owner.
    Maintenance(WorkerMaintenance),
    /// Delete a worker. What its owner earned stays.
    Delete(WorkerShow),
}

#[derive(Debug, Args)]
pub(crate) struct WorkerList {
    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// Only those of this account, by number or alias.
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) user: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerShow {
    /// The worker's id or name.
    pub(crate) worker: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerSwitch {
    /// The worker's id or name.
    pub(crate) worker: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// End it.
    #[arg(long)]
    pub(crate) off: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerMaintenance {
    #[command(flatten)]
    pub(crate) switch: WorkerSwitch,

    /// What the worker is told.
    #[arg(long, value_name = "TEXT", conflicts_with = "off")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FilterCommand {
    /// List filters.
    List(FilterList),
    /// Make a filter.
    Add(FilterAdd),
    /// Change a filter.
    Change(FilterChange),
    /// Delete a filter.
    Remove(FilterRemove),
    /// Say what the filters find in a prompt. Nothing comes of it.
    Test(FilterTest),
}

#[derive(Debug, Args)]
pub(crate) struct FilterList {
    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// Only those of this type.
    #[arg(long = "type", value_name = "NUMBER")]
    pub(crate) kind: Option<u8>,
}

/// What a filter is made of; which of it must be given depends on the command.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterParts {
    /// Its type: 10 and 11 are the first context, 20 the second.
    #[arg(long = "type", value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(10..=29))]
    pub(crate) kind: Option<u8>,

    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,

    /// What is put in the place of what it finds.
    #[arg(long, value_name = "TEXT")]
    pub(crate) replacement: Option<String>,

    /// Who changes it, by number or alias [default: the anonymous account].
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) editor: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct FilterAdd {
    /// The expression.
    pub(crate) regex: String,

    #[command(flatten)]
    pub(crate) parts: FilterParts,

    #[command(flatten)]
    pub(crate) store: AdminStore,
}

#[derive(Debug, Args)]
pub(crate) struct FilterChange {
    /// The filter's number.
    pub(crate) id: i64,

    /// A new expression.
    #[arg(long, value_name = "REGEX")]
    pub(crate) regex: Option<String>,

    #[command(flatten)]
    pub(crate) parts: FilterParts,

    #[command(flatten)]
    pub(crate) store: AdminStore,
}

#[derive(Debug, Args)]
pub(crate) struct FilterRemove {
    /// The filter's number.
    pub(crate) id: i64,

    #[command(flatten)]
    pub(crate) store: AdminStore,
}

#[derive(Debug, Args)]
pub(crate) struct FilterTest {
    /// The prompt.
    pub(crate) prompt: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// Only filters of this type.
    #[arg(long = "type", value_name = "NUMBER")]
    pub(crate) kind: Option<u8>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IpCommand {
    /// List the addresses and blocks that are shut out now.
    List(IpList),
    /// Shut an address or a block out.
    Block(IpBlock),
    /// Let an address or a block in again, and forget what was reported of it.
    Free(IpFree),
}

#[derive(Debug, Args)]
pub(crate) struct IpList {
    #[command(flatten)]
    pub(crate) store: AdminStore,
}

#[derive(Debug, Args)]
pub(crate) struct IpBlock {
    /// An address, or a block such as `192.0.2.0/24`.
    pub(crate) network: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// For how long.
    #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=87_600))]
    pub(crate) hours: u32,
}

#[derive(Debug, Args)]
pub(crate) struct IpFree {
    /// An address, or a block such as `192.0.2.0/24`.
    pub(crate) network: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StyleCommand {
    /// List styles.
    List(StyleList),
    /// Show a style.
    Show(StyleShow),
    /// Delete a style, out of collections too.
    Remove(StyleShow),
}

#[derive(Debug, Args)]
pub(crate) struct StyleList {
    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// Only those of this account, by number or alias.
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) user: Option<String>,

    /// Only those of this kind.
    #[arg(long, value_name = "KIND", value_parser = ["image", "text"])]
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StyleShow {
    /// The style's id or name, such as `name` or `alias#1::style::name`.
    pub(crate) style: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to write; it must not be there yet.
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// `file:///DIR` where the pictures lie, or `s3://…`, which are left where they are.
    #[arg(long, env = "ORDU_BLOBS", value_name = "URL", hide_env_values = true)]
    pub(crate) blobs: Option<String>,

    /// Put the data folder's secrets into the file as well: who has it then has everything.
    #[arg(long)]
    pub(crate) with_secret: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup.
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// `file:///DIR` for the pictures, or `s3://…`, where they still are.
    #[arg(long, env = "ORDU_BLOBS", value_name = "URL", hide_env_values = true)]
    pub(crate) blobs: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Take over the PostgreSQL database of an AI Horde 5.x. It is only read.
    Aihorde(Import),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The old database, `postgres://user:password@host/name`.
    pub(crate) source: String,

    #[command(flatten)]
    pub(crate) store: AdminStore,

    /// Write nothing, only count.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
