//! The keys under the heading `Listeners` of the help: where clients are heard, and which. Called by `keys`.

use super::values::{file, files, one, parse_addr, parse_switch};
use super::{Key, Kind};

const HEADING: &str = "Listeners";

/// In the order in which help and `config show` list them.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "blob-listen",
        value_name: "ADDR",
        kind: Kind::Text,
        default: "127.0.0.1:9000",
        help: "Where the blob HTTP interface listens",
        heading: HEADING,
        set: |settings, values| {
            settings.blob_listen = parse_addr(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-listen",
        value_name: "ADDR",
        kind: Kind::Text,
        default: "127.0.0.1:8080",
        help: "Where the caching proxy listens, once there is a --slice-origin",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.listen = parse_addr(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "ops-listen",
        value_name: "ADDR",
        kind: Kind::Text,
        default: "127.0.0.1:2381",
        help: "Where /metrics and health listen",
        heading: HEADING,
        set: |settings, values| {
            settings.ops_listen = parse_addr(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "insecure",
        value_name: "BOOL",
        kind: Kind::Switch,
        default: "false",
        help: "Let listeners that are not loopback serve without TLS",
        heading: HEADING,
        set: |settings, values| {
            settings.insecure = parse_switch(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "tls-cert",
        value_name: "FILE",
        kind: Kind::Paths,
        default: "none",
        help: "Serve TLS with this certificate chain, in PEM; several: by name",
        heading: HEADING,
        set: |settings, values| {
            settings.tls.certs = files(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "tls-key",
        value_name: "FILE",
        kind: Kind::Paths,
        default: "none",
        help: "Its private key, in PEM; one for each certificate, in the same order",
        heading: HEADING,
        set: |settings, values| {
            settings.tls.keys = files(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "tls-client-ca",
        value_name: "FILE",
        kind: Kind::Text,
        default: "none",
        help: "Take only clients with a certificate that one of these authorities signed, in PEM",
        heading: HEADING,
        set: |settings, values| {
            settings.tls.client_ca = file(one(values)?);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "token-file",
        value_name: "FILE",
        kind: Kind::Text,
        default: "none",
        help: "Tokens that clients need, in lines `blob|slice|ops TOKEN`",
        heading: HEADING,
        set: |settings, values| {
            settings.token_file = file(one(values)?);
            Ok(())
        },
        understood: None,
    },
];
