//! CONNECT and CONNACK (3.1, 3.2): beginning, refusing, resuming and taking over.

use crate::harness::*;

/// [MQTT-3.2.0-1] The first packet of a server is a CONNACK of success, or the connection is refused.
#[test]
fn mqtt_3_2_0_1_connack_comes_first() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.fence();
    }
}
