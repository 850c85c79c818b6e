//! A route object by itself: what it says.

use culvert_objects::{GRPCRoute, HTTPRoute, Kind, ObjectName, TCPRoute, TLSRoute};

use super::super::reader::Reader;
use super::resolver::Resolver;
use crate::routing::model::Parent;
use crate::routing::read::notes::Notes;
use crate::routing::read::{grpc, http, tcp, tls};

/// What a route object says, as far as it can be read.
#[derive(Debug, Default)]
pub(in crate::model) struct Reading {
    pub(super) parents: Vec<Parent>,
    pub(super) notes: Notes,
    /// Which version of its spec this is.
    pub(super) generation: Option<i64>,
    /// Whether it could be read at all.
    pub(super) is_read: bool,
}

/// Reads a route object; none where there is none, or it is none.
pub(in crate::model) fn read(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> Option<Reading> {
    let mut notes = Notes::default();
    let label = format!("{kind} {name}");
    let (parents, generation) = match kind {
        Kind::HTTPRoute => {
            let object = reader.own::<HTTPRoute>(name)?;
            let resolver = Resolver::new(reader, "HTTPRoute", name, object);
            let read = http::route(&label, &object.spec, &resolver, &mut notes);
            (read.map(|(parents, _)| parents), object.generation)
        }
        Kind::GRPCRoute => {
            let object = reader.own::<GRPCRoute>(name)?;
            let resolver = Resolver::new(reader, "GRPCRoute", name, object);
            let read = grpc::route(&label, &object.spec, &resolver, &mut notes);
            (read.map(|(parents, _)| parents), object.generation)
        }
        Kind::TCPRoute => {
            let object = reader.own::<TCPRoute>(name)?;
            let resolver = Resolver::new(reader, "TCPRoute", name, object);
            let read = tcp::route(&object.spec, &resolver, &mut notes);
            (read.map(|(parents, _)| parents), object.generation)
        }
        Kind::TLSRoute => {
            let object = reader.own::<TLSRoute>(name)?;
            let resolver = Resolver::new(reader, "TLSRoute", name, object);
            let read = tls::route(&object.spec, &resolver, &mut notes);
            (read.map(|(parents, _)| parents), object.generation)
        }
        _ => return None,
    };
    Some(Reading {
        is_read: parents.is_some(),
        parents: parents.unwrap_or_default(),
        generation,
        notes,
    })
}
