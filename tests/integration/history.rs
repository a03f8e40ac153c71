//! What broke in Mosquitto, by advisory or by month, and the tests that hold it here; each is named after what broke.
//!
//! A name is the module of a test and the test; those of modules that are not beside this one are unit tests in `src`.
//!
//! - CVE-2017-7650: `rights::cve_2017_7650_wildcards_in_names`.
//! - CVE-2017-9868: `stored::cve_2017_9868_the_database_is_its_owners`.
//! - CVE-2017-7651: `memory::cve_2017_7651_a_huge_first_remaining_length`,
//!   `robust::a_claimed_size_costs_nothing_before_connect`.
//! - CVE-2017-7652: `reload::cve_2017_7652_out_of_descriptors`,
//!   `reload::cve_2017_7652_broken_files_change_nothing`, `reload::cve_2017_7652_unreadable_files_change_nothing`,
//!   `history::rights::cve_2017_7652_out_of_descriptors_with_every_kind_of_file`,
//!   `history::rights::cve_2017_7652_a_directory_of_settings_that_is_gone`.
//! - CVE-2017-7653: `packets::cve_2017_7653_topics_that_are_no_utf_8`.
//! - CVE-2017-7654: `memory::cve_2017_7654_refused_connects_leave_nothing`.
//! - CVE-2017-7655: `packets::cve_2017_7655_packets_of_a_server_that_lack_something`.
//! - CVE-2018-12543: `rights::cve_2018_12543_dollar_topics`.
//! - November 2018: `history::rights::november_2018_a_websocket_listener_opens_nothing_else`; there are no
//!   WebSocket listeners yet.
//! - CVE-2018-20145: `rights::cve_2018_20145_default_listener_with_its_own_rules`.
//! - CVE-2018-12546: `rights::cve_2018_12546_retained_by_who_may_no_longer`.
//! - CVE-2018-12550: `rights::cve_2018_12550_empty_acl_file`,
//!   `history::rights::cve_2018_12550_files_that_are_empty_at_a_reload`.
//! - CVE-2018-12551: `accounts::cve_2018_12551_malformed_files_at_the_start`.
//! - April 2019: `memory::april_2019_wills_with_properties`.
//! - CVE-2019-11778: `memory::cve_2019_11778_will_delays_beyond_the_session`.
//! - CVE-2019-11779: `packets::cve_2019_11779_topics_of_slashes`.
//! - August 2020: `memory::august_2020_qos_2_for_a_full_queue_after_a_restart`.
//! - December 2020: `passwd::december_2020_the_password_is_not_the_name`.
//! - March 2021: `tls::march_2021_broken_authorities_at_a_reload_change_nothing`,
//!   `history::rights::march_2021_a_tool_with_an_empty_authority_file_never_connects`.
//! - CVE-2021-28166: `packets::cve_2021_28166_connack_from_a_client`.
//! - CVE-2021-34431: `memory::cve_2021_34431_refused_connects_with_properties_leave_nothing`.
//! - CVE-2021-34432: `packets::cve_2021_34432_publish_with_an_empty_topic`.
//! - CVE-2021-34434: `reload::cve_2021_34434_rules_hold_at_once`,
//!   `reload::cve_2021_34434_forbidden_subscriptions_end`, `rights::cve_2021_34434_queued_messages`,
//!   `rights::cve_2021_34434_messages_in_flight`, `rights::cve_2021_34434_wills`,
//!   `rights::cve_2021_34434_delayed_wills`, `history::rights::cve_2021_34434_a_replay_under_way`,
//!   `history::rights::cve_2021_34434_messages_behind_the_window`,
//!   `history::rights::cve_2021_34434_shared_subscriptions_of_who_may_no_longer`,
//!   `history::rights::cve_2021_34434_delayed_wills_of_a_session_resumed_by_another_user`,
//!   `stored::cve_2021_34434_rights_that_go_between_two_lives`,
//!   `stored::cve_2021_34434_rights_of_a_listener_that_is_no_more`,
//!   `tls::cve_2021_34434_names_of_certificates_switched_off_at_a_reload`.
//! - CVE-2021-41039: `memory::cve_2021_41039_user_properties_without_number`.
//! - August 2021: `history::rights::august_2021_a_tls_option_before_any_listener`,
//!   `config::august_2021_tls_before_any_listener_opens_nothing_to_anonymous_clients`,
//!   `rights::august_2021_qos_2_is_asked_for_again_at_its_release`,
//!   `rights::august_2021_a_session_resumed_by_another_user`.
//! - CVE-2020-13849: `memory::cve_2020_13849_keep_alive_has_a_maximum`.
//! - August 2022: cannot be: there is no dynamic security yet.
//! - CVE-2023-0809: `memory::cve_2023_0809_a_first_packet_that_is_no_connect`,
//!   `memory::many_halves_of_a_connect_share_what_one_may_have`.
//! - CVE-2023-3592: `memory::cve_2023_3592_wills_with_invalid_properties_leave_nothing`.
//! - CVE-2023-28366: `memory::cve_2023_28366_publishes_that_are_never_released`,
//!   `memory::cve_2023_28366_what_is_never_released_has_a_bound_in_bytes`,
//!   `publish::a_publish_repeated_without_end`.
//! - August 2023: `rights::august_2023_wills_to_sys_and_control`,
//!   `certificates::august_2023_names_that_no_client_may_have`, `database::damaged_databases_are_salvaged`.
//! - CVE-2024-8376: `packets::cve_2024_8376_normal_and_shared_subscriptions_in_any_order`,
//!   `robust::valid_packets_in_any_order`.
//! - CVE-2024-10525: `packets::cve_2024_10525_suback_without_reason_codes`.
//! - October 2024: cannot be: there are no bridges yet.
//! - 2025: `memory::y2025_subscribes_that_are_refused_leave_nothing`.
//! - mosquitto 3435: `packets::mosquitto_3435_fields_that_reach_beyond_the_header`,
//!   `proxy::mosquitto_3435_any_bytes`.
//! - mosquitto 3702: `stored::mosquitto_3702_messages_that_go_while_they_are_stored`.
//! - mosquitto 3551: `accounts::mosquitto_3551_a_connected_session_is_its_owners` and those beside it,
//!   `stored::mosquitto_3551_a_stored_session_is_its_owners`,
//!   `tls::mosquitto_3551_a_session_of_a_certificate_is_its_owners`.
//!
//! What a broker in a language without such faults of memory must hold all the same:
//!
//! 1. A panic is a denial of service: `robust::random_bytes` and those beside it,
//!    `packets::any_packet_in_any_state`, `packets::cve_2019_11779_topics_of_slashes`, `proxy::any_line`,
//!    `import::any_bytes_are_read_to_their_end`, `acl::any_bytes_are_a_file_or_an_error`,
//!    `password::any_bytes_get_an_answer`, `config::no_bytes_panic`.
//! 2. Before anybody is let in: `memory::half_open_sockets_cost_little`,
//!    `memory::many_halves_of_a_connect_share_what_one_may_have`,
//!    `memory::cve_2023_0809_a_first_packet_that_is_no_connect`, `broker::connect_timeout`,
//!    `tls::half_a_handshake_is_small_and_disturbs_nobody`, `tls::half_a_handshake_ends_at_the_connect_timeout`,
//!    `layers::a_hello_has_a_bound`, `session::max_connections`.
//! 3. Fail closed: the rows of CVE-2017-7652, CVE-2018-12550 and CVE-2018-12551;
//!    `tls::files_that_cannot_be_used_end_the_start`, `tls::a_client_that_is_revoked_at_a_reload_is_disconnected`,
//!    `certificates::authorities_fail_closed`, `command::bad_configurations`, `plugins::other_plugins_are_refused`,
//!    `plugins::plugins_that_keep_nobody_out_are_told`.
//! 4. Stale authority: the rows of CVE-2021-34434, CVE-2018-12546 and August 2021;
//!    `reload::removed_users_and_changed_passwords`.
//! 5. Every path applies the rules: `rights::wills`, `rights::retained_messages`, `rights::topic_aliases`,
//!    `rights::shared_subscriptions`, `rights::subscribe_rules`, `rights::sys_needs_a_rule`,
//!    `rights::writing_to_sys_and_control`, `rights::mount_point_and_rules`,
//!    `history::rights::every_listener_applies_its_own_rules`; a response topic is a word to the receiver, who
//!    publishes there under their own rights.
//! 6. Names: `rights::cve_2017_7650_wildcards_in_names`, `acl::names_in_patterns_are_text`,
//!    `malformed::mqtt_1_5_4_1_utf8_in_connect`, `certificates::names_that_could_be_taken_for_others_are_refused`,
//!    `log::nobody_can_forge_a_line`.
//! 7. Growth: `memory::what_clients_leave_behind_is_used_again`, the rows of CVE-2023-28366,
//!    `broker::exchanges_that_nobody_completes`, `flow::max_queued_messages`, `flow::max_queued_bytes`,
//!    `flow::memory_limit`, `flow::slow_reader_at_qos_0`, `flow::a_client_that_never_reads_its_answers`,
//!    `session::global_max_clients`, `subscriptions::the_cache_is_bounded`.
//! 8. States: `packets::any_packet_in_any_state`, `packets::cve_2021_28166_connack_from_a_client`,
//!    `packets::cve_2024_8376_normal_and_shared_subscriptions_in_any_order`,
//!    `ping_disconnect::mqtt_4_12_0_7_auth_without_a_method`, `session::mqtt_4_3_3_1_take_over_while_sending`,
//!    `memory::cve_2019_11778_will_delays_beyond_the_session`, `tls::ends_in_the_middle_of_a_tls_write`,
//!    `accounts::packets_behind_connect_wait_for_the_password`.
//! 9. Time: `memory::cve_2021_41039_user_properties_without_number`,
//!    `memory::storms_of_wildcards_keep_nobody_waiting`,
//!    `memory::rules_by_the_thousand_cost_nothing_for_each_message`,
//!    `memory::clients_that_do_wrong_without_end_do_not_flood_the_log`, `accounts::a_crowd_holds_nobody_up`,
//!    `event_loop::a_flood_starves_nobody`, `certificates::work_for_one_client_is_bounded`; the tables are hashed
//!    with a seed that no peer knows.
//! 10. Durability: the modules `durability`, `disk` and `database`.
//! 11. What a server sends: `packets::cve_2017_7655_packets_of_a_server_that_lack_something`,
//!     `packets::cve_2024_10525_suback_without_reason_codes`, `tools::servers_that_misbehave`,
//!     `history::rights::march_2021_a_tool_with_an_empty_authority_file_never_connects`,
//!     `tools_tls::names_of_servers`.
//! 12. Files: `stored::cve_2017_9868_the_database_is_its_owners`,
//!     `history::rights::files_behind_links_are_read_again_where_they_lead`,
//!     `passwd::a_file_is_created_for_its_owner`, `accounts::nothing_secret_in_the_log`,
//!     `durability::nothing_acknowledged_is_lost_by_a_power_cut`.
//! 13. Whose a session is: the row of mosquitto 3551.

mod memory;
mod packets;
mod rights;
mod stored;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::*;

/// A client that behaves, and is served within a time that a person would not notice, whatever others do.
struct Witness(Raw);

impl Witness {
    fn of(broker: &Broker) -> Witness {
        Witness(broker.connect_v5("witness"))
    }

    /// Its ping is answered.
    #[track_caller]
    fn is_served(&mut self) -> Duration {
        let start = Instant::now();
        self.0.fence();
        start.elapsed()
    }
}

/// How much memory a broker may be found with after an attack, in KiB, beside what it had: what an allocator keeps.
const SLACK_KIB: u64 = 6 * 1024;

/// Does the same thing again and again: what is kept for the next time is there after the first times, and from then on
/// the memory of the broker stays as it is. `leak_kib` is what each round would add if it left everything behind.
#[track_caller]
fn assert_memory_stays(broker: &Broker, leak_kib: u64, mut round: impl FnMut()) {
    const ROUNDS: usize = 8;
    let leak_kib = leak_kib * ROUNDS as u64 / 2;
    assert!(
        leak_kib > 2 * SLACK_KIB,
        "a leak of {leak_kib} KiB would not be seen"
    );
    let mut resident = Vec::new();
    for _ in 0..ROUNDS {
        round();
        resident.push(broker.status("VmRSS"));
    }
    let [.., last] = resident[..] else {
        unreachable!("there are rounds")
    };
    let growth = last.saturating_sub(resident[ROUNDS / 2 - 1]);
    assert!(growth < SLACK_KIB, "{growth} KiB more: {resident:?}");
}

/// The end of a client's connection without a word; the broker has seen it when this returns.
fn cut(mut client: Raw) {
    client.shutdown_send();
    assert!(client.drain_until_closed().is_some());
}

/// The processor time that the broker has used so far.
fn cpu(broker: &Broker) -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = broker.proc("stat");
    // Behind the name, which may hold anything, the fields have their numbers less 3.
    let behind = stat.rsplit(')').next().expect("proc(5)");
    let ticks = |field: usize| -> u64 {
        let text = behind.split_whitespace().nth(field - 3);
        text.expect("proc(5)").parse().expect("proc(5)")
    };
    Duration::from_millis((ticks(14) + ticks(15)) * 1000 / TICKS_PER_SECOND)
}

/// Asserts that `attack` costs the broker no more processor time than `allowed`, and says what it was.
#[track_caller]
fn assert_costs(broker: &Broker, allowed: Duration, attack: impl FnOnce()) {
    let before = cpu(broker);
    attack();
    let cost = cpu(broker) - before;
    assert!(cost < allowed, "{cost:?} of processor time");
}

/// The text of every source file below `folder`.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder)
        .expect("a folder of the house")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            texts.push(fs::read_to_string(&path).expect("it is text"));
        }
    }
}

/// The list at the top of this file names tests that there are, and every test of these modules is in it.
#[test]
fn every_test_named_above_exists() {
    let mut texts = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(&root.join("tests"), &mut texts);
    sources(&root.join("src"), &mut texts);
    let list: String = include_str!("history.rs")
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let mut named = Vec::new();
    for name in list.split('`').skip(1).step_by(2) {
        if let Some((_, test)) = name.rsplit_once("::") {
            let line = format!("fn {test}(");
            assert!(
                texts.iter().any(|text| text.contains(&line)),
                "there is no {name}"
            );
            named.push(test);
        }
    }
    assert!(named.len() > 100, "the list is not the list");
    let here = [
        include_str!("history/memory.rs"),
        include_str!("history/packets.rs"),
        include_str!("history/rights.rs"),
        include_str!("history/stored.rs"),
    ];
    for text in here {
        for behind in text.split("#[test]\nfn ").skip(1) {
            let test = behind.split('(').next().expect("a split has a first part");
            assert!(named.contains(&test), "{test} is not in the list");
        }
    }
}
