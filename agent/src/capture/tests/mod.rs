//! Files, packets and connections, made by code.

mod conversation;
mod files;
mod flows;
mod hostile;
mod packets;
mod properties;
mod seeds;
mod write;
