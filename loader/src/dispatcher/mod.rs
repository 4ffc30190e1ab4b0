//! Chains of XDP programs on one interface, by the protocol of libxdp's dispatcher.

pub(crate) mod action;
pub(crate) mod plan;
pub(crate) mod xdp;
