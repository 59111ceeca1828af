//! The options of one server among several.

use clap::Args;
use ordu_server::NodeConfig;

/// How a server shares its work with others.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Node {
    /// This server is one of several with the same PostgreSQL database; any name for it.
    #[arg(long, env = "ORDU_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// The folder of pictures is the same one on every node.
    #[arg(long, env = "ORDU_SHARED_BLOBS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) shared_blobs: bool,
}

impl Node {
    /// `None` for a server alone.
    pub(crate) fn config(&self) -> Option<NodeConfig> {
        self.node.as_ref().map(|name| NodeConfig {
            name: name.clone(),
            shared_folder: self.shared_blobs,
        })
    }
}
