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
    /// Whether it could be read at all.
    pub(super) is_read: bool,
}

/// Reads a route object; none where there is none, or it is none.
pub(in crate::model) fn read(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> Option<Reading> {
    let mut notes = Notes::default();
    let label = format!("{kind} {name}");
    let parents = match kind {
        Kind::HTTPRoute => {
            let object = reader.own::<HTTPRoute>(name)?;
            let resolver = Resolver::new(reader, "HTTPRoute", name, object);
            http::route(&label, &object.spec, &resolver, &mut notes).map(|(parents, _)| parents)
        }
        Kind::GRPCRoute => {
            let object = reader.own::<GRPCRoute>(name)?;
            let resolver = Resolver::new(reader, "GRPCRoute", name, object);
            grpc::route(&label, &object.spec, &resolver, &mut notes).map(|(parents, _)| parents)
        }
        Kind::TCPRoute => {
            let object = reader.own::<TCPRoute>(name)?;
            let resolver = Resolver::new(reader, "TCPRoute", name, object);
            tcp::route(&object.spec, &resolver, &mut notes).map(|(parents, _)| parents)
        }
        Kind::TLSRoute => {
            let object = reader.own::<TLSRoute>(name)?;
            let resolver = Resolver::new(reader, "TLSRoute", name, object);
            tls::route(&object.spec, &resolver, &mut notes).map(|(parents, _)| parents)
        }
        _ => return None,
    };
    Some(Reading {
        is_read: parents.is_some(),
        parents: parents.unwrap_or_default(),
        notes,
    })
}
