//! What a listener asks of those who come: TLS, perhaps with a certificate, a bearer token, or nothing. Made by the node for each listener, asked by `server`.

use crate::http1::Head;
use crate::live::{Live, View};
use crate::tls::Identity;
use crate::tokens::Tokens;
use std::sync::Arc;

/// What a listener asks. Clones share what may be replaced.
#[derive(Clone, Default)]
pub struct Door {
    /// What token files call the listener.
    pub listener: &'static str,
    /// With what it speaks TLS; `None`: it does not.
    pub identity: Option<Live<Identity>>,
    /// The tokens it takes; `None`: it asks for none.
    pub tokens: Option<Live<Tokens>>,
}

/// One column's end of a door.
pub(crate) struct DoorView {
    listener: &'static str,
    identity: Option<View<Identity>>,
    tokens: Option<View<Tokens>>,
}

impl DoorView {
    pub(crate) fn new(door: &Door) -> DoorView {
        DoorView {
            listener: door.listener,
            identity: door.identity.as_ref().map(View::new),
            tokens: door.tokens.as_ref().map(View::new),
        }
    }

    /// With what to speak TLS.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.as_ref().map(View::get)
    }

    /// Whether the head carries what is asked for.
    pub(crate) fn admits(&self, head: &Head<'_>) -> bool {
        self.tokens.as_ref().is_none_or(|tokens| tokens.get().admit(self.listener, head))
    }
}
