//! What an assessor found about one object, and the conditions it comes to.
//!
//! What always holds: everything that is wrong is said, in the order it was found; the first finding
//! gives the reason; only what was rejected or unresolved takes the object out of service.

use claviger_api::condition::{
    Condition, ConditionStatus, ConditionType, Reason, Verdict, set_condition,
};

use crate::events::Flip;
use crate::secret::Unresolved;

/// Findings about one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    rejected: Vec<(Reason, String)>,
    unresolved: Vec<(Reason, String)>,
    unready: Vec<(ConditionStatus, Reason, String)>,
    warnings: Vec<(Reason, String)>,
    notes: Vec<String>,
    others: Vec<Verdict>,
}

impl Findings {
    /// `Accepted=False`.
    pub fn reject(&mut self, reason: Reason, message: impl Into<String>) {
        self.rejected.push((reason, message.into()));
    }

    /// `ResolvedRefs=False`.
    pub fn unresolved(&mut self, unresolved: Unresolved) {
        self.unresolved.push((unresolved.reason, unresolved.message));
    }

    /// Takes the value, or notes that it is unresolved.
    pub fn resolved<T>(&mut self, result: Result<T, Unresolved>) -> Option<T> {
        result.map_err(|unresolved| self.unresolved(unresolved)).ok()
    }

    /// `Ready=False`, but in service.
    pub fn unready(&mut self, reason: Reason, message: impl Into<String>) {
        self.unready.push((ConditionStatus::False, reason, message.into()));
    }

    /// `Ready=Unknown`, but in service.
    pub fn unknown(&mut self, reason: Reason, message: impl Into<String>) {
        self.unready.push((ConditionStatus::Unknown, reason, message.into()));
    }

    /// `Accepted=True` with this reason instead of the plain one.
    pub fn warn(&mut self, reason: Reason, message: impl Into<String>) {
        self.warnings.push((reason, message.into()));
    }

    /// Something worth knowing that is no fault; it stands in the message of `Accepted=True`.
    pub fn note(&mut self, message: impl Into<String>) {
        self.notes.push(message.into());
    }

    /// Conditions of the kind's own, beside the three that every kind has.
    pub fn also(&mut self, verdicts: impl IntoIterator<Item = Verdict>) {
        self.others.extend(verdicts);
    }

    /// Whether the spec was accepted.
    pub fn is_accepted(&self) -> bool {
        self.rejected.is_empty()
    }

    /// Whether the object is in service.
    pub fn is_in_service(&self) -> bool {
        self.rejected.is_empty() && self.unresolved.is_empty()
    }

    /// Why the spec was rejected.
    pub fn rejections(&self) -> impl Iterator<Item = Reason> {
        self.rejected.iter().map(|(reason, _)| *reason)
    }

    /// Accepted, `ResolvedRefs`, Ready, and those of the kind's own.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let every_kind = [self.accepted(), self.resolved_refs(), self.ready()];
        every_kind.into_iter().chain(self.others.iter().cloned()).collect()
    }

    fn accepted(&self) -> Verdict {
        if let Some((reason, _)) = self.rejected.first() {
            let message = join(self.rejected.iter().map(|(_, message)| message));
            return Verdict::fails(ConditionType::Accepted, *reason, message);
        }
        let said = || self.warnings.iter().map(|(_, message)| message).chain(&self.notes);
        let reason = self.warnings.first().map_or(Reason::Accepted, |(reason, _)| *reason);
        let message = match said().next() {
            Some(_) => join(said()),
            None => "the spec is valid".to_owned(),
        };
        Verdict::holds(ConditionType::Accepted, reason, message)
    }

    fn resolved_refs(&self) -> Verdict {
        match self.unresolved.first() {
            Some((reason, _)) => {
                let message = join(self.unresolved.iter().map(|(_, message)| message));
                Verdict::fails(ConditionType::ResolvedRefs, *reason, message)
            }
            None => Verdict::holds(
                ConditionType::ResolvedRefs,
                Reason::ResolvedRefs,
                "everything it refers to is there",
            ),
        }
    }

    fn ready(&self) -> Verdict {
        let of_service = self.rejected.iter().chain(&self.unresolved).map(|(_, message)| message);
        let all =
            || join(of_service.clone().chain(self.unready.iter().map(|(_, _, message)| message)));
        if !self.rejected.is_empty() {
            return Verdict::fails(ConditionType::Ready, Reason::NotAccepted, all());
        }
        if !self.unresolved.is_empty() {
            return Verdict::fails(ConditionType::Ready, Reason::RefsNotResolved, all());
        }
        let worst = self.unready.iter().find(|(status, ..)| *status == ConditionStatus::False);
        match worst.or(self.unready.first()) {
            Some((ConditionStatus::False, reason, _)) => {
                Verdict::fails(ConditionType::Ready, *reason, all())
            }
            Some((_, reason, _)) => Verdict::unknown(ConditionType::Ready, *reason, all()),
            None => Verdict::holds(ConditionType::Ready, Reason::Ready, "in service"),
        }
    }
}

fn join<'m>(messages: impl Iterator<Item = &'m String>) -> String {
    messages.map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// The conditions an object gets, and which of them flip.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// What is there now, of the types that are ours, in a fixed order.
    pub before: Vec<Condition>,
    /// What shall be there, in the same order.
    pub after: Vec<Condition>,
    /// What changed sides.
    pub flips: Vec<Flip>,
}

/// Puts the findings into conditions; a time moves only where a status flips.
pub fn settle(observed: &[Condition], findings: &Findings, generation: i64, now: i64) -> Settled {
    let verdicts = findings.verdicts();
    let find = |verdict: &Verdict| {
        observed.iter().find(|condition| condition.type_ == verdict.type_.as_str())
    };
    let before: Vec<Condition> = verdicts.iter().filter_map(find).cloned().collect();
    let mut after = before.clone();
    for verdict in &verdicts {
        set_condition(&mut after, verdict, generation, now);
    }
    let flips = verdicts.iter().filter_map(|verdict| flip(find(verdict), verdict)).collect();
    Settled { before, after, flips }
}

/// Every change of sides is told; of a first look the summary, and what it says nothing of.
fn flip(before: Option<&Condition>, verdict: &Verdict) -> Option<Flip> {
    let good = verdict.status == ConditionStatus::True;
    let told = match before {
        Some(before) => before.status != verdict.status.as_str(),
        None => match verdict.type_ {
            ConditionType::Ready => true,
            ConditionType::UpstreamCertificateFresh => !good,
            _ => false,
        },
    };
    // Nothing is wrong with what comes about by itself.
    let waiting = verdict.reason == Reason::RotationPending;
    (told && !waiting && verdict.status != ConditionStatus::Unknown).then(|| Flip {
        condition: verdict.type_.as_str().to_owned(),
        good,
        reason: verdict.reason.as_str().to_owned(),
        message: verdict.message.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(findings: &Findings) -> Vec<(&'static str, &'static str, &'static str)> {
        findings
            .verdicts()
            .iter()
            .map(|v| (v.type_.as_str(), v.status.as_str(), v.reason.as_str()))
            .collect()
    }

    #[test]
    fn nothing_found_is_ready() {
        assert_eq!(
            words(&Findings::default()),
            [
                ("Accepted", "True", "Accepted"),
                ("ResolvedRefs", "True", "ResolvedRefs"),
                ("Ready", "True", "Ready"),
            ]
        );
    }

    #[test]
    fn all_failures_stand_in_the_message_and_the_first_gives_the_reason() {
        let mut findings = Findings::default();
        findings.reject(Reason::ClientIDNotAllowed, "one");
        findings.reject(Reason::TenantPolicyViolation, "two");
        findings.unresolved(Unresolved::new(Reason::SecretNotFound, "three"));
        let verdicts = findings.verdicts();
        let [accepted, resolved, ready] = verdicts.as_slice() else { panic!() };
        assert_eq!(accepted.reason, Reason::ClientIDNotAllowed);
        assert_eq!(accepted.message, "one; two");
        assert_eq!(resolved.reason, Reason::SecretNotFound);
        assert_eq!(ready.reason, Reason::NotAccepted);
        assert_eq!(ready.message, "one; two; three");
        assert!(!findings.is_in_service());
    }

    #[test]
    fn an_upstream_that_fails_leaves_the_object_in_service() {
        let mut findings = Findings::default();
        findings.unready(Reason::UpstreamUnreachable, "no route to host");
        assert!(findings.is_in_service());
        assert_eq!(words(&findings)[2], ("Ready", "False", "UpstreamUnreachable"));
    }

    #[test]
    fn false_weighs_more_than_unknown() {
        let mut findings = Findings::default();
        findings.unknown(Reason::NotProbed, "not asked yet");
        findings.unready(Reason::ConnectorNotReady, "connector ldap is out of service");
        let verdicts = findings.verdicts();
        let [_, _, ready] = verdicts.as_slice() else { panic!() };
        assert_eq!(
            (ready.status, ready.reason),
            (ConditionStatus::False, Reason::ConnectorNotReady)
        );
    }

    #[test]
    fn a_warning_is_the_reason_of_accepted_and_nothing_else() {
        let mut findings = Findings::default();
        findings.warn(Reason::ImpersonationPossible, "add emailDomains");
        assert_eq!(words(&findings)[0], ("Accepted", "True", "ImpersonationPossible"));
        assert_eq!(words(&findings)[2], ("Ready", "True", "Ready"));
    }

    #[test]
    fn settling_twice_changes_nothing_and_flips_nothing() {
        let mut findings = Findings::default();
        let first = settle(&[], &findings, 1, 100);
        assert_eq!(first.flips.len(), 1, "the first look tells Ready alone");
        let second = settle(&first.after, &findings, 1, 200);
        assert_eq!(second.before, second.after);
        assert!(second.flips.is_empty());
        findings.unready(Reason::UpstreamUnreachable, "down");
        let third = settle(&second.after, &findings, 1, 300);
        assert_eq!(third.flips.iter().map(|f| f.condition.as_str()).collect::<Vec<_>>(), ["Ready"]);
    }

    #[test]
    fn conditions_of_others_are_not_taken_over() {
        let mut others = settle(&[], &Findings::default(), 1, 100).after;
        others.push(Condition { type_: "Synced".into(), ..others[0].clone() });
        let settled = settle(&others, &Findings::default(), 1, 200);
        assert_eq!(settled.before.len(), 3);
        assert_eq!(settled.before, settled.after);
    }
}
