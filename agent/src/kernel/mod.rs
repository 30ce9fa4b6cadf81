//! All questions about the running kernel, and what Sonde may do on it: where its structures keep their members, which
//! hooks it has, which privileges this process holds. What is missing is said in words and turns off no more than it must.

pub mod btf;
mod features;
mod hooks;
pub mod offsets;
mod perf;
mod privileges;
pub mod synthetic;
mod types;

#[cfg(test)]
pub(crate) mod tests;

pub use features::{Cgroups, Features, Lockdown, Roots, Version};
pub use hooks::{HookChoice, HookFamily, Hooks, Lack, Refusal, choose_hooks, why_not};
pub use offsets::{Missing, Part, Resolved};
pub use privileges::{Capability, Privileges};
pub use types::{FUNCTIONS, KernelTypes, Tracepoint, TypesError};
