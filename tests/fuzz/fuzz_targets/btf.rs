//! Any bytes as the kernel's BTF: no panic, no endless search, and what is found lies within it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sonde::kernel::KernelTypes;
use sonde::kernel::btf::{Btf, Sort};
use sonde::kernel::synthetic;

fuzz_target!(|bytes: &[u8]| {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for id in
        btf.find(&[(Sort::Struct, "sock"), (Sort::Typedef, "btf_trace_sys_exit"), (Sort::Function, "f")])
    {
        assert!(id.is_none_or(|id| (1..=btf.count()).contains(&id)));
    }
    for id in (0..=btf.count().min(64)).chain([u32::MAX]) {
        let _ = btf.member(id, "__sk_common.skc_daddr");
    }
    let types = KernelTypes::parse(bytes).expect("the same bytes are BTF still");
    let small =
        KernelTypes::parse(&synthetic::names(&types, |_| true)).expect("what Sonde writes it can read");
    assert_eq!(small.tracepoints, types.tracepoints);
});
