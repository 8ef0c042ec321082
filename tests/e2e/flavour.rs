//! The two flavours of the contract: what one promises, the other does.

/// A flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Blocking,
    Asynchronous,
}

impl Flavour {
    /// What belongs to the flavour, of two things.
    pub(crate) fn pick<T>(self, blocking: T, asynchronous: T) -> T {
        match self {
            Self::Blocking => blocking,
            Self::Asynchronous => asynchronous,
        }
    }
}

/// Makes two tests of each of these functions: one in a module `blocking`, one in a module `asynchronous`.
macro_rules! in_both_flavours {
    ($($test:ident),+ $(,)?) => {
        mod blocking {
            $(#[test]
            fn $test() {
                super::$test($crate::flavour::Flavour::Blocking);
            })+
        }
        mod asynchronous {
            $(#[test]
            fn $test() {
                super::$test($crate::flavour::Flavour::Asynchronous);
            })+
        }
    };
}

pub(crate) use in_both_flavours;
