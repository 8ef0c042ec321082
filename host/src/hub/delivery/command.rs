//! What hubs tell a shard.

use std::{net, sync::Arc};

use tokio::sync::oneshot;

use super::{
    super::{
        Hub,
        connection::{CloseReason, Timing},
        frame::Frame,
    },
    body::Feed,
    outlet::{Framing, Seat},
};

/// What a shard is told. Outlets and groups are told by their numbers.
#[derive(Debug)]
pub(in super::super) enum Command {
    /// A new connection.
    Open {
        outlet: u32,
        hub: Hub,
        member: u32,
        place: u32,
        held: bool,
        timing: Timing,
    },
    /// Its response head has left, and this is its socket.
    TakeOver {
        outlet: u32,
        stream: net::TcpStream,
        framing: Framing,
        seat: Seat,
    },
    /// Its response goes through the HTTP library.
    Feed { outlet: u32, feed: Arc<Feed> },
    /// What carried it is gone.
    Gone { outlet: u32 },
    /// It hears the events of a group from now on.
    Join { outlet: u32, group: u32 },
    /// It does not any more.
    Leave { outlet: u32, group: u32 },
    /// An event for a group.
    Deliver { group: u32, frame: Arc<Frame> },
    /// A frame for one connection.
    Send { outlet: u32, frame: Arc<Frame> },
    /// What one connection missed.
    Replay {
        outlet: u32,
        frames: Vec<Arc<Frame>>,
    },
    /// It has been told all that it missed.
    Release { outlet: u32 },
    /// It has ended, and leaves these groups. Its hub says so once, and nothing about it afterwards.
    End {
        outlet: u32,
        reason: CloseReason,
        groups: Vec<u32>,
    },
    /// Who is in a group, by their numbers in the hub.
    Who {
        group: u32,
        reply: oneshot::Sender<Vec<u32>>,
    },
    /// The node ends: nothing is delivered any more.
    Stop,
}
