//! Where the controller's bytes are, stage by stage, without allocator and without nodes: a bound for each, so that what
//! makes an object larger is noticed. `cargo test -p culvert-bench-scale -- --nocapture` prints them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use culvert_controller::model::{Model, Settings};
use culvert_controller::placement::Placement;
use culvert_objects::{Assembly, Kind, Objects};
use serde_json::{Value, json};

use crate::world::World;

const PODS: usize = 4000;

struct Counting;

thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // While a thread ends, its counter is gone already; nothing is measured then.
    let _ = BYTES.try_with(|all| all.set(all.get() + bytes));
}

// SAFETY: everything is passed on to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a stage made, and the bytes that it left behind for each of so many.
fn bytes<T>(of: usize, stage: impl FnOnce() -> T) -> (T, isize) {
    let before = BYTES.get();
    let made = stage();
    (made, (BYTES.get() - before) / isize::try_from(of).unwrap())
}

fn apply(assembly: &mut Assembly, kind: &str, object: Value) {
    let kind = Kind::followed().find(|known| known.name() == kind).unwrap();
    assembly.apply(kind.descriptor().read(object).unwrap());
}

#[test]
fn a_pod_costs_the_controller_no_more_than_this() {
    let world = World {
        pods: PODS,
        nodes: 40,
        pods_of_service: 50,
    };
    let (mut assembly, objects) = bytes(PODS, || {
        let mut assembly = Assembly::default();
        for (kind, object) in world.objects() {
            apply(&mut assembly, kind, object);
        }
        assembly
    });
    let (in_force, settled) = bytes(PODS, || assembly.settle().0.clone());
    let (model, derived) = bytes(PODS, || {
        let mut model = Model::new(Settings::default());
        model.update(&in_force, Instant::now());
        model
    });
    let (placement, placed) = bytes(PODS, || {
        let mut placement = Placement::default();
        placement.update(&Objects::default(), &in_force);
        placement
    });
    let encoded: usize = {
        use prost::Message as _;
        model
            .addresses()
            .values()
            .map(|address| address.encoded_len())
            .sum::<usize>()
            / PODS
    };
    println!(
        "bytes for each pod: objects and their indexes {objects}, in force {settled}, derived {derived} (of which encoded \
         {encoded}), placement {placed}"
    );
    for (what, is, bound) in [
        ("an object and its indexes", objects, 800),
        ("its place among those in force", settled, 50),
        // What each pod reads to find out whether it is behind a waypoint is remembered, too.
        ("what is derived of it", derived, 1600),
        ("its place on its node", placed, 50),
    ] {
        assert!(
            is <= bound,
            "{what}: {is} bytes, and no more than {bound} were enough before"
        );
    }
    drop((model, placement));
}

/// Slices are kept of every Service, since it may lose its selector.
#[test]
fn an_endpoint_of_a_slice_costs_no_more_than_this() {
    const SLICES: usize = 40;
    const ENDPOINTS: usize = 100;
    let endpoint = |slice: usize, number: usize| {
        let name = format!("service-{slice:04}-7d9c5b8f6d-{number:05}");
        json!({"addresses": [format!("10.1.{slice}.{number}")], "nodeName": "node-0001", "zone": "north-1",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "team-00", "name": name, "uid": format!("0a1b2c3d-{name}")}})
    };
    let (assembly, each) = bytes(SLICES * ENDPOINTS, || {
        let mut assembly = Assembly::default();
        for slice in 0..SLICES {
            let endpoints: Vec<Value> = (0..ENDPOINTS).map(|number| endpoint(slice, number)).collect();
            let object = json!({
                "metadata": {"name": format!("service-{slice:04}-abcde"), "namespace": "team-00",
                    "labels": {"kubernetes.io/service-name": format!("service-{slice:04}")}},
                "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            });
            apply(&mut assembly, "EndpointSlice", object);
        }
        assembly
    });
    println!("bytes for each endpoint of a slice: {each}");
    assert!(each <= 200, "{each} bytes");
    drop(assembly);
}
