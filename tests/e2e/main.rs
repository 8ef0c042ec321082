//! End to end: the real host, through real sockets. One module for each subject.

mod guests {
    //! Where the components are.
    #![warn(dead_code, reason = "a guest that no test serves would be there untested")]

    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}
mod examples;
mod probe;
mod streams;
mod browser;
mod clients;
mod redis;
