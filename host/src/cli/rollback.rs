//! `fanfare rollback`: back to code that an app of a running node has served before.

use anyhow::Result;
use clap::Args;
use http::Method;
use serde_json::json;

use super::{deploy::report, node::NodeArgs};

/// Which app, and where to.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The app
    #[arg(long, value_name = "NAME")]
    app: String,
    /// The version, by its first digits, instead of the one that served before; `fanfare apps --app NAME` lists them
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

impl Rollback {
    pub fn run(self) -> Result<()> {
        let node = self.node.client()?;
        let app = node.app(&self.app)?;
        let body = match &self.to {
            Some(to) => json!({ "to": to }),
            None => json!({}),
        };
        let path = format!("/apps/{}/rollback", app.name);
        let rolled_back = node.work(
            Method::POST,
            &path,
            "application/json",
            body.to_string().into(),
        );
        report(&app.name, &app.version, rolled_back)
    }
}
