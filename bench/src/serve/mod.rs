//! The contenders that live in this binary. Each answers `GET /events?channel=…` with a stream, and
//! `POST /publish?…` as [`fanfare_bench_protocol::Publish`] says.

mod axum;
mod floor;
mod hub;

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use clap::Subcommand;

/// A contender of this binary.
#[derive(Debug, Subcommand)]
pub enum Serve {
    /// A bare write loop
    Floor {
        /// Where to listen
        #[arg(long)]
        listen: SocketAddr,
    },
    /// This host's hub without a guest
    Hub {
        /// Where to listen
        #[arg(long)]
        listen: SocketAddr,
        /// How many events a channel keeps
        #[arg(long)]
        backlog: usize,
        /// How long it keeps them, in milliseconds
        #[arg(long, default_value_t = 600_000)]
        history_age_ms: u64,
    },
    /// axum's `Sse` over tokio's `broadcast`
    Axum {
        /// Where to listen
        #[arg(long)]
        listen: SocketAddr,
        /// How many events a channel keeps for those who are behind
        #[arg(long)]
        capacity: usize,
    },
}

impl Serve {
    /// Serves until the process is ended.
    pub fn run(self) -> Result<()> {
        rlimit::increase_nofile_limit(u64::MAX)?;
        match self {
            Self::Floor { listen } => floor::serve(listen),
            Self::Hub {
                listen,
                backlog,
                history_age_ms,
            } => hub::serve(listen, backlog, Duration::from_millis(history_age_ms)),
            Self::Axum { listen, capacity } => axum::serve(listen, capacity),
        }
    }
}
