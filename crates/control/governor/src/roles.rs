//! Which role allows which call.
//!
//! The one table of it. Every call of the governor asks it, and so does every route
//! before its handler runs, by the names that stand here; what is not in it is allowed
//! to nobody. It is about people alone: an agent has authority by its delegation, and
//! each call says what that is enough for.

use creto_nhi::Role;

/// Who is allowed a call, besides the owner, who is allowed every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Besides {
    /// Every role.
    Everyone,
    /// Operators and auditors: what both have to see.
    Readers,
    /// Auditors: what is theirs alone to see.
    Auditor,
    /// Operators: changes that keep agents running within bounds.
    Operator,
    /// Approvers: decisions on what waits for a human.
    Approver,
    /// Nobody.
    Nobody,
}

impl Besides {
    const fn includes(self, role: Role) -> bool {
        match role {
            Role::Owner => true,
            Role::Operator => matches!(self, Self::Everyone | Self::Readers | Self::Operator),
            Role::Auditor => matches!(self, Self::Everyone | Self::Readers | Self::Auditor),
            Role::Approver => matches!(self, Self::Everyone | Self::Approver),
        }
    }
}

macro_rules! calls {
    ($($call:ident: $besides:ident = [$first:literal $(, $other:literal)*],)+) => {
        /// Something a person may ask the governor for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is named as its operation is")]
        pub enum Call {
            $($call,)+
        }

        impl Call {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$call,)+];

            const fn row(self) -> (Besides, &'static [&'static str]) {
                match self {
                    $(Self::$call => (Besides::$besides, &[$first $(, $other)*]),)+
                }
            }

            /// What it is called in answers and descriptions.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$call => $first,)+
                }
            }
        }
    };
}

calls! {
    // The caller itself. That it renews its own credential is no change of anything
    // but how it proves who it is.
    Whoami: Everyone = ["whoami", "logout_form"],
    IssueToken: Everyone = ["issue_token", "exchange_token"],
    GetCheckpoint: Everyone = ["get_checkpoint"],
    GetLogKeys: Everyone = ["get_log_keys"],

    // What waits for a human.
    ListOversightRequests: Everyone = ["list_oversight_requests", "requests_page"],
    GetOversightRequest: Everyone = [
        "get_oversight_request", "get_access_request", "request_page"
    ],
    ApproveRequest: Approver = ["approve_oversight_request", "approve_form"],
    DenyRequest: Approver = ["deny_oversight_request", "deny_form"],

    // People, agents and their authority.
    AddHuman: Nobody = ["add_human"],
    SetRole: Nobody = ["set_role"],
    RenewHumanCredential: Nobody = ["renew_human_credential"],
    SuspendHuman: Nobody = ["suspend_human"],
    RevokeHuman: Nobody = ["revoke_human"],
    ChangeHumanKeys: Nobody = ["change_human_keys"],
    CreatePrincipal: Nobody = ["create_principal"],
    ListPrincipals: Readers = ["list_principals"],
    SuspendPrincipal: Operator = ["suspend_principal"],
    ResumePrincipal: Operator = ["resume_principal"],
    RevokePrincipal: Operator = ["revoke_principal"],
    RotatePrincipalKey: Operator = ["rotate_principal_key"],
    RevokePrincipalKey: Operator = ["revoke_principal_key"],
    Delegate: Nobody = ["delegate"],
    ListDelegations: Readers = ["list_delegations"],
    GetDelegation: Readers = ["get_delegation"],
    RevokeDelegation: Operator = ["revoke_delegation"],
    IssueAgentToken: Nobody = ["issue_agent_token"],
    EraseSubject: Nobody = ["erase_subject"],
    RotateKeys: Nobody = ["rotate_keys"],
    RetireKeys: Nobody = ["retire_keys"],
    RotateLogKeys: Nobody = ["rotate_log_keys"],
    RetireLogKeys: Nobody = ["retire_log_keys"],
    GetAlgorithms: Readers = ["get_algorithms"],

    // Secrets. No person reads the value of one.
    PutSecret: Nobody = ["put_secret"],
    HandOverSecret: Nobody = ["hand_over_secret"],
    ListSecrets: Readers = ["list_secrets"],
    LeaseSecret: Nobody = ["lease_secret"],
    ReadSecret: Nobody = ["read_secret"],
    ListLeases: Readers = ["list_leases"],
    RevokeLease: Operator = ["revoke_lease"],

    // Signatures. No person signs with an agent's key.
    Sign: Nobody = ["sign"],
    GetPublicKeys: Readers = ["get_public_keys"],
    PublishPrekeys: Nobody = ["publish_prekeys"],
    GetPrekeys: Readers = ["get_prekeys"],
    TakePrekey: Nobody = ["take_prekey"],

    // What a person does in person. A question that carries an approval is the action
    // itself, so that asking is acting.
    SubmitAction: Nobody = ["submit_action", "request_access"],
    SettleAction: Nobody = ["settle_action"],
    ReleaseAction: Nobody = ["release_action"],
    Ask: Nobody = ["access_evaluation", "access_evaluations"],
    ReserveTimestamps: Nobody = ["reserve_timestamps"],
    OrderEvents: Nobody = ["order_events"],

    // Usage and money.
    GetUsage: Readers = ["get_usage"],
    IssueInvoice: Nobody = ["issue_invoice"],
    ListInvoices: Auditor = ["list_invoices"],
    GetInvoice: Auditor = ["get_invoice"],

    // Limits and rates.
    SetLimit: Operator = ["set_limit"],
    ListLimits: Readers = ["list_limits"],
    RemoveLimit: Operator = ["remove_limit"],
    SetRate: Operator = ["set_rate"],
    ListRates: Readers = ["list_rates"],
    RemoveRate: Operator = ["remove_rate"],

    // Sandboxes. Whoever launches one acts as the agent, whose secrets it may read.
    LaunchSandbox: Nobody = ["launch_sandbox"],
    ListSandboxes: Readers = ["list_sandboxes"],
    GetSandbox: Readers = ["get_sandbox"],
    KillSandbox: Operator = ["kill_sandbox"],

    // Policies. What tries a candidate without putting it anywhere is reading.
    PublishPolicies: Operator = ["publish_policies"],
    ListPolicyVersions: Readers = ["list_policy_versions"],
    GetPoliciesInForce: Readers = ["get_policies_in_force"],
    GetPolicyVersion: Readers = ["get_policy_version"],
    RollbackPolicies: Operator = ["rollback_policies"],
    FollowPolicyDirectory: Operator = ["follow_policy_directory"],
    ValidatePolicies: Readers = ["validate_policies"],
    DryRunPolicies: Readers = ["dry_run_policies"],
    ExplainPolicies: Readers = ["explain_policies"],
    StartPolicyShadow: Operator = ["start_policy_shadow"],
    GetPolicyShadow: Readers = ["get_policy_shadow"],
    StopPolicyShadow: Operator = ["stop_policy_shadow"],

    // The log, and what operators see of the server.
    GetAction: Readers = ["get_action"],
    SearchRecords: Readers = ["search_records"],
    GetLeaf: Readers = ["get_leaf"],
    GetConsistency: Readers = ["get_consistency"],
    GetTile: Readers = ["get_tile"],
    ExportEvidence: Auditor = ["export_evidence"],
    Metrics: Readers = ["metrics"],
}

impl Call {
    /// Whether a person with this role may ask for it.
    #[must_use]
    pub const fn allows(self, role: Role) -> bool {
        self.row().0.includes(role)
    }

    /// The call that an operation of an interface makes, if it makes one.
    #[must_use]
    pub fn of_operation(operation: &str) -> Option<Self> {
        let mut calls = Self::ALL.iter().copied();
        calls.find(|call| call.row().1.contains(&operation))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The calls that a role is allowed, by name.
    fn allowed(role: Role) -> Vec<&'static str> {
        let calls = Call::ALL.iter().filter(|call| call.allows(role));
        calls.map(|call| call.name()).collect()
    }

    #[test]
    fn an_operation_is_one_call() {
        let mut seen = HashSet::new();
        for call in Call::ALL {
            for operation in call.row().1 {
                assert!(seen.insert(*operation), "{operation}");
                assert_eq!(Call::of_operation(operation), Some(*call));
            }
        }
        assert_eq!(Call::of_operation("something_new"), None);
    }

    #[test]
    fn an_approver_decides_and_sees_what_it_decides() {
        assert_eq!(
            allowed(Role::Approver),
            [
                "whoami",
                "issue_token",
                "get_checkpoint",
                "get_log_keys",
                "list_oversight_requests",
                "get_oversight_request",
                "approve_oversight_request",
                "deny_oversight_request",
            ]
        );
    }

    #[test]
    fn an_auditor_changes_nothing_but_its_own_credential() {
        let reading = [
            "get_",
            "list_",
            "search_",
            "export_",
            "validate_",
            "dry_run_",
            "explain_",
        ];
        for call in allowed(Role::Auditor) {
            let reads = reading.iter().any(|kind| call.starts_with(kind))
                || ["whoami", "issue_token", "metrics"].contains(&call);
            assert!(reads, "{call}");
        }
        // And everything that reads is there.
        for call in Call::ALL {
            if reading.iter().any(|kind| call.name().starts_with(kind)) {
                assert!(call.allows(Role::Auditor), "{call:?}");
            }
        }
    }

    #[test]
    fn an_operator_changes_what_runs_and_nothing_else() {
        let changes: Vec<_> = allowed(Role::Operator)
            .into_iter()
            .filter(|name| !allowed(Role::Auditor).contains(name))
            .collect();
        assert_eq!(
            changes,
            [
                "suspend_principal",
                "resume_principal",
                "revoke_principal",
                "rotate_principal_key",
                "revoke_principal_key",
                "revoke_delegation",
                "revoke_lease",
                "set_limit",
                "remove_limit",
                "set_rate",
                "remove_rate",
                "kill_sandbox",
                "publish_policies",
                "rollback_policies",
                "follow_policy_directory",
                "start_policy_shadow",
                "stop_policy_shadow",
            ]
        );
        for kept in [Call::ListInvoices, Call::GetInvoice, Call::ExportEvidence] {
            assert!(!kept.allows(Role::Operator), "{kept:?}");
        }
    }

    #[test]
    fn an_owner_may_ask_for_everything() {
        assert_eq!(allowed(Role::Owner).len(), Call::ALL.len());
    }
}
