//! Named values that outlive a call and are shared by the app's handlers on this node.
//!
//! A value is a [`Publisher`], a [`Redis`] client, a text or bytes. A name has 1 to 255 bytes without control
//! characters. Values last until the node ends.
//!
//! ```
//! use fanfare_guest::{Error, Publisher, registry, testing::Host};
//!
//! Host::new().run(|| {
//!     registry::set("motto", "nothing is lost in silence")?;
//!     assert_eq!(registry::get::<String>("motto")?, "nothing is lost in silence");
//!     assert_eq!(registry::kind("motto"), Some(registry::Kind::Text));
//!
//!     assert!(matches!(registry::get::<Publisher>("motto"), Err(Error::WrongType(_))));
//!     assert!(matches!(registry::get::<String>("mottos"), Err(Error::NotFound(_))));
//!     Ok::<(), Error>(())
//! })?;
//! # Ok::<(), Error>(())
//! ```

use crate::{
    Result,
    flavour::{Publisher, Redis},
    sys,
};

/// The kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A [`Publisher`].
    Publisher,
    /// A [`Redis`] client.
    Redis,
    /// A [`String`].
    Text,
    /// A [`Vec<u8>`].
    Bytes,
}

/// What [`get`] can return.
pub trait Get: Sized + sealed::Get {}

/// What [`set`] can keep.
pub trait Set: sealed::Set {}

/// The value under a name.
///
/// Errors: [`NotFound`](crate::Error::NotFound) where there is none;
/// [`WrongType`](crate::Error::WrongType) where it is of another kind.
pub fn get<T: Get>(name: &str) -> Result<T> {
    T::get(name)
}

/// Keeps a value under a name, in place of the one that was there, of whatever kind.
///
/// Errors: [`Invalid`](crate::Error::Invalid) for a name that is none;
/// [`Limited`](crate::Error::Limited) where the app's limits are reached.
pub fn set<T: Set + ?Sized>(name: &str, value: &T) -> Result<()> {
    value.set(name)
}

/// Whether there is a value under a name.
pub fn has(name: &str) -> bool {
    sys::registry::has(name)
}

/// The kind of the value under a name.
pub fn kind(name: &str) -> Option<Kind> {
    sys::registry::kind(name)
}

/// Removes a value; false where there was none.
pub fn remove(name: &str) -> bool {
    sys::registry::remove(name)
}

/// All names, sorted.
pub fn keys() -> Vec<String> {
    sys::registry::keys()
}

mod sealed {
    use crate::Result;

    pub trait Get: Sized {
        fn get(name: &str) -> Result<Self>;
    }

    pub trait Set {
        fn set(&self, name: &str) -> Result<()>;
    }
}

impl<F> Get for Publisher<F> {}
impl<F> sealed::Get for Publisher<F> {
    fn get(name: &str) -> Result<Self> {
        sys::registry::get_publisher(name).map(Self::from_sys)
    }
}
impl<F> Set for Publisher<F> {}
impl<F> sealed::Set for Publisher<F> {
    fn set(&self, name: &str) -> Result<()> {
        sys::registry::set_publisher(name, self.sys())
    }
}

impl<F> Get for Redis<F> {}
impl<F> sealed::Get for Redis<F> {
    fn get(name: &str) -> Result<Self> {
        sys::registry::get_redis(name).map(Self::from_sys)
    }
}
impl<F> Set for Redis<F> {}
impl<F> sealed::Set for Redis<F> {
    fn set(&self, name: &str) -> Result<()> {
        sys::registry::set_redis(name, self.sys())
    }
}

impl Get for String {}
impl sealed::Get for String {
    fn get(name: &str) -> Result<Self> {
        sys::registry::get_text(name)
    }
}
impl Set for str {}
impl sealed::Set for str {
    fn set(&self, name: &str) -> Result<()> {
        sys::registry::set_text(name, self)
    }
}
impl Set for String {}
impl sealed::Set for String {
    fn set(&self, name: &str) -> Result<()> {
        sys::registry::set_text(name, self)
    }
}

impl Get for Vec<u8> {}
impl sealed::Get for Vec<u8> {
    fn get(name: &str) -> Result<Self> {
        sys::registry::get_bytes(name)
    }
}
impl Set for [u8] {}
impl sealed::Set for [u8] {
    fn set(&self, name: &str) -> Result<()> {
        sys::registry::set_bytes(name, self)
    }
}
impl Set for Vec<u8> {}
impl sealed::Set for Vec<u8> {
    fn set(&self, name: &str) -> Result<()> {
        sys::registry::set_bytes(name, self)
    }
}
