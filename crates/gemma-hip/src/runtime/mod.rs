//! A small safe layer over the runtime: what is allocated is given back, every wait ends, every code becomes an error that says what to do.
//!
//! It knows no plan. All that is asked of a GPU goes through its one [`Card`], by whoever has the turn.

mod buffer;
mod card;
mod driver;
mod event;
mod graph;
mod module;

pub(crate) use buffer::{ALIGNMENT, Buffer, Placement};
pub(crate) use card::{Card, Turn, patience};
pub(crate) use driver::{Driver, architecture_of};
pub(crate) use event::Event;
pub(crate) use graph::Graph;
