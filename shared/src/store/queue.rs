//! The tables of the embedded broker; used by [`crate::broker::embedded`] alone.
