//! One file a verb.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod convert;
pub(crate) mod doctor;
pub(crate) mod eval;
mod export;
pub(crate) mod info;
pub(crate) mod perplexity;
pub(crate) mod quantize;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod tune;
pub(crate) mod validate;
