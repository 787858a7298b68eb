//! Policies: settings for the queues and exchanges of a vhost whose names match a pattern.

use super::{Applied, Catalog, admin::check_name};
use crate::{
    access::compile,
    definitions::PolicyDefinition,
    event::Refusal,
    properties::Text,
    store::{Table, keys::catalog as keys, values::admin as rows},
};

impl Catalog {
    pub(super) fn put_policy(
        &mut self,
        policy: &PolicyDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        check_name("policy", &policy.name)?;
        self.check_vhost(&policy.vhost)?;
        compile(&policy.pattern).map_err(Refusal::Invalid)?;
        applied.batch.put(
            Table::Catalog,
            keys::policy(policy.operator, &policy.vhost, &policy.name),
            rows::write_policy(policy),
        );
        self.routes_mut().put_policy(policy.clone());
        Ok(())
    }

    pub(super) fn remove_policy(
        &mut self,
        vhost: &Text,
        name: &Text,
        operator: bool,
        applied: &mut Applied,
    ) -> bool {
        let key = keys::policy(operator, vhost, name);
        applied.batch.delete(Table::Catalog, key);
        self.routes_mut().remove_policy(vhost, name, operator)
    }
}
