//! What it costs that memory is sampled: a thousand allocations of 64 bytes, each freed at once, with and without. Samples themselves, one in 512 KiB,
//! are in it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
};

use culvert_bench_cases::Cases;
use culvert_profile::heap::SampledAllocator;

fn allocations(cases: &mut Cases) {
    cases.case("allocate/plain", || thousand(&System));
    let sampled = SampledAllocator::new(System);
    cases.case("allocate/sampled", || thousand(&sampled));
}

fn thousand(allocator: &impl GlobalAlloc) {
    let layout = Layout::new::<[u64; 8]>();
    for _ in 0..1000 {
        // SAFETY: the layout is not empty, and what was allocated with it is freed with it, once.
        unsafe {
            let place = black_box(allocator.alloc(black_box(layout)));
            allocator.dealloc(place, layout);
        }
    }
}

fn main() {
    culvert_bench_cases::main(&[allocations]);
}
