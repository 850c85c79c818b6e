//! What there is to send: the seam between the streams and whoever derives resources.

use std::sync::Arc;

/// One resource as it goes over the wire. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Distinguishes contents; equal digests mean equal contents. The version that clients are told follows from it.
    pub digest: u64,
    /// The encoded message.
    pub body: Arc<[u8]>,
    /// Other names by which a client may have asked for it, sent to clients that subscribe on demand.
    pub aliases: Arc<[Arc<str>]>,
}

impl Entry {
    /// How long a version is.
    pub(crate) const VERSION_LEN: usize = 16;

    /// The version that clients are told, and tell when they come back.
    pub fn version(&self) -> String {
        format!("{:016x}", self.digest)
    }

    /// The digest behind a version; none if it is not one that [`Self::version`] made.
    pub(crate) fn digest_of(version: &str) -> Option<u64> {
        // Others write a number otherwise, with a sign or in capitals.
        let is_ours =
            version.len() == Self::VERSION_LEN && version.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_ours.then(|| u64::from_str_radix(version, 16).ok())?
    }
}

/// Resources, each with its name, whose text is shared.
pub type Named<'a> = Box<dyn Iterator<Item = (&'a Arc<str>, &'a Entry)> + 'a>;

/// A consistent state of all resources.
pub trait Resources {
    /// Every resource of a type, by name. Names are shared, since many streams hold the same. `None` for a type that is not served.
    fn all<'a>(&'a self, type_url: &str) -> Option<Named<'a>>;

    /// A resource by its name.
    fn get(&self, type_url: &str, name: &str) -> Option<&Entry>;

    /// The names of the resources that a client needs who asked for `name`, which is a resource's name or an alias: the
    /// resource itself and what it refers to. Empty when there is none.
    fn expand(&self, type_url: &str, name: &str) -> Vec<Arc<str>>;

    /// What a client of this node (empty if unknown) gets from the start when it subscribes on demand.
    fn initial(&self, type_url: &str, node: &str) -> Vec<Arc<str>>;
}

/// A type that a [`View`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeSpec {
    /// The type URL.
    pub url: &'static str,
    /// Types to which resources of this one refer. New resources of those are acknowledged before anything of this type is
    /// sent, and removals of those are sent when what referred to them has been acknowledged ("make before break").
    pub after: &'static [&'static str],
    /// Bytes of contents after which the first answer to a client that holds nothing goes on in another response, at the least; none
    /// where it is one response, however large. A client keeps a buffer of its longest response. Not for types that it must be told of
    /// all at once.
    pub piece: Option<usize>,
    /// The type whose resource of the same name is sent again after each of this one, whatever the client was sent before: a client
    /// that takes in a changed resource waits for the other one to come after it, and does not ask, as Envoy for a cluster's endpoints.
    pub followed_by: Option<&'static str>,
}

/// What one kind of caller may see of a state, and in which order. A value of one moment, which a [`Stream`] is handed
/// whenever it works.
///
/// [`Stream`]: crate::server::Stream
pub trait View {
    /// The types that are served, in the order in which they are sent: a type comes behind those it refers to.
    fn types(&self) -> &'static [TypeSpec];

    /// Every resource of a type, by name. Names are shared, since many streams hold the same.
    fn all<'a>(&'a self, type_url: &str) -> Named<'a>;

    /// A resource by its name.
    fn get(&self, type_url: &str, name: &str) -> Option<&Entry>;

    /// See [`Resources::expand`].
    fn expand(&self, type_url: &str, name: &str) -> Vec<Arc<str>>;

    /// Whether [`expand`](Self::expand) finds anything. Asked often: it should not cost what that does.
    fn knows(&self, type_url: &str, name: &str) -> bool {
        !self.expand(type_url, name).is_empty()
    }

    /// Everything by which a client may ask for the resource `name`, which is there: as [`Change::keys`] has it.
    ///
    /// [`Change::keys`]: crate::Change::keys
    fn keys(&self, type_url: &str, name: &str) -> Vec<Arc<str>>;

    /// The name of the resource `name`, if it is there, as [`all`](Self::all) has it: with a text that is shared.
    fn shared(&self, type_url: &str, name: &str) -> Option<Arc<str>>;

    /// What the caller gets from the start when it subscribes on demand.
    fn initial(&self, type_url: &str) -> Vec<Arc<str>>;
}
