//! End to end: the real host, through real sockets. One module for each subject.

mod guests {
    //! Where the components are.
    #![deny(
        dead_code,
        reason = "a guest that no test serves would be there untested"
    )]

    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}
/// Tests for both flavours.
mod flavour;
/// Scripts for the guest `probe`.
mod probe;

mod admin;
mod bad_guests;
mod bad_input;
mod brokers;
mod browser;
mod clients;
mod config;
mod contract;
mod cors;
mod deploy;
mod deploy_refused;
mod deploy_versions;
mod dev;
mod examples;
mod faults;
mod forgetting;
mod framing;
mod hostile;
mod http;
mod inspect;
mod instances;
mod isolation;
mod languages;
mod lifecycle;
mod limits;
mod llm_relay;
mod node_limits;
mod occupancy;
mod outgoing;
mod proxy;
mod race;
mod redis;
mod resume;
mod resume_storm;
mod servers;
mod shutdown;
mod slow_clients;
mod starts;
mod streams;
mod wit;
