//! The MQTT client that `pub`, `sub`, `rr` and `ctrl` share.
//!
//! | part | what it knows |
//! |---|---|
//! | `options` | arguments and option files |
//! | `transport` | the way to the broker: sockets, TLS, WebSocket, proxies |

pub(crate) mod options;
