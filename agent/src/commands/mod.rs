//! The commands of `sonde`, one file each.

pub mod doctor;
