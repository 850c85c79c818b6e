//! What policies say of requests and connections without deciding about them.

use std::collections::BTreeMap;

use culvert_http::filters::Remark;

use super::metrics::Telemetry;

/// What was said of one of them.
#[derive(Debug, Default)]
pub struct Remarks {
    /// For the access log and for filters: metadata in the namespace `envoy.filters.http.rbac`.
    pub(super) metadata: BTreeMap<String, String>,
    /// What would become of it if those that are tried out decided.
    pub(super) dry_run: Option<String>,
    /// Those with the action AUDIT that it is like, separated by commas.
    pub(super) audit: Option<String>,
}

impl Remarks {
    /// Adds what one filter says, and counts it.
    pub(super) fn add(&mut self, remark: &Remark, telemetry: &Telemetry) {
        self.metadata.extend(remark.metadata());
        if let Some(policy) = &remark.refused_by {
            telemetry.would_refuse(policy.as_deref());
            // Those that deny come first, and decide.
            self.dry_run.get_or_insert_with(|| match policy {
                Some(policy) => format!("would be denied by {policy}"),
                None => "would not be among those that policies allow".to_owned(),
            });
        }
        if let Some(policy) = remark.audited_by() {
            telemetry.audited(policy);
            match &mut self.audit {
                Some(all) => *all = format!("{all},{policy}"),
                none => *none = Some(policy.to_owned()),
            }
        }
    }
}
