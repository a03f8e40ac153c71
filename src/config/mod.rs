//! What the operator asked for: plain data, a file and line for every complaint.

/// Log targets: what Mosquitto calls log types and the `log` facade's five levels cannot tell apart.
///
/// `error`, `warning` and `debug` are the facade's own levels; a line of one of these types is logged as
/// `log::info!(target: log_target::NOTICE, ..)`.
pub mod log_target {
    /// `log_type notice`, at level Info.
    pub const NOTICE: &str = "notice";
    /// `log_type information`, at level Info.
    pub const INFORMATION: &str = "information";
    /// `log_type subscribe`, at level Info.
    pub const SUBSCRIBE: &str = "subscribe";
    /// `log_type unsubscribe`, at level Info.
    pub const UNSUBSCRIBE: &str = "unsubscribe";
}
