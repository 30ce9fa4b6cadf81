//! Files, packets and connections, made by code.

mod conversation;
mod files;
mod flows;
mod packets;
mod properties;
mod write;
