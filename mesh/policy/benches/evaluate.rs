//! What a verdict costs: 1, 10 and 100 policies that bind one workload, each with 10 principals, of which the last
//! matches. That is the work of one inbound connection, and of one open connection when policies change.

use std::hint::black_box;

use culvert_bench_cases::Cases;
use culvert_identity::SpiffeId;
use culvert_policy::{Connection, Policy, evaluate};
use culvert_proto::security as proto;

fn policy(number: usize) -> Result<Policy, culvert_policy::PolicyError> {
    let principals = (0..10)
        .map(|account| proto::StringMatch {
            match_type: Some(proto::string_match::MatchType::Exact(format!(
                "cluster.local/ns/team-{number}/sa/account-{account}"
            ))),
        })
        .collect();
    let one = proto::Match {
        principals,
        destination_ports: vec![8080],
        ..Default::default()
    };
    Policy::from_proto(&proto::Authorization {
        name: format!("allow-{number}"),
        namespace: "shop".to_owned(),
        rules: vec![proto::Rule {
            clauses: vec![proto::Clause { matches: vec![one] }],
        }],
        ..Default::default()
    })
}

fn verdicts(cases: &mut Cases) {
    for count in [1, 10, 100] {
        let Ok(policies) = (0..count).map(policy).collect::<Result<Vec<_>, _>>() else {
            return;
        };
        let Ok(identity) = SpiffeId::new("cluster.local", &format!("team-{}", count - 1), "account-9") else {
            return;
        };
        let connection = Connection {
            identity: Some(&identity),
            source: [198, 18, 1, 7].into(),
            destination: ([198, 18, 2, 9], 8080).into(),
        };
        cases.case(&format!("evaluate/{count}"), || {
            evaluate(black_box(&policies), black_box(&connection))
        });
    }
}

fn main() {
    culvert_bench_cases::main(&[verdicts]);
}
