//! What a listener asks of those who come: a bearer token, or nothing. Made by the node for each listener, asked by `server`.

use crate::http1::Head;
use crate::live::{Live, View};
use crate::tokens::Tokens;

/// What a listener asks. Clones share what may be replaced.
#[derive(Clone, Default)]
pub struct Door {
    /// What token files call the listener.
    pub listener: &'static str,
    /// The tokens it takes; `None`: it asks for none.
    pub tokens: Option<Live<Tokens>>,
}

/// One column's end of a door.
pub(crate) struct DoorView {
    listener: &'static str,
    tokens: Option<View<Tokens>>,
}

impl DoorView {
    pub(crate) fn new(door: &Door) -> DoorView {
        DoorView { listener: door.listener, tokens: door.tokens.as_ref().map(View::new) }
    }

    /// Whether the head carries what is asked for.
    pub(crate) fn admits(&self, head: &Head<'_>) -> bool {
        self.tokens.as_ref().is_none_or(|tokens| tokens.get().admit(self.listener, head))
    }
}
