//! What expressions say, what is refused before it runs, and how long the longest run takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Answer, CompileError, Condition, ConditionError, Expression, Facts, RunError};
use crate::identity::Identity;

fn jane() -> Identity {
    Identity {
        user_id: "42".into(),
        email: Some("jane@example.com".into()),
        email_verified: true,
        name: Some("Jane Doe".into()),
        preferred_username: Some("jane".into()),
        groups: vec!["team-a:dev".into(), "team-b:ops".into()],
        extra: BTreeMap::from([("locale".to_owned(), json!("de"))]),
    }
}

fn facts(identity: &Identity) -> Facts<'_> {
    Facts {
        subject: "sub-42",
        identity,
        connector: "ldap",
        client_id: "grafana",
        scopes: &["openid", "groups"],
        acr: "urn:mfa",
    }
}

fn compiled(text: &str) -> Result<Expression, CompileError> {
    Expression::compile(text, &Facts::OF_CONDITIONS)
}

fn holds(text: &str, identity: &Identity) -> Result<bool, RunError> {
    compiled(text).unwrap().holds(&facts(identity))
}

#[test]
fn an_expression_looks_at_user_client_scopes_and_acr() {
    for text in [
        "user.sub == 'sub-42' && user.userID == '42' && user.connector == 'ldap'",
        "user.email.endsWith('@example.com') && user.emailVerified",
        "user.email.split('@')[1] == 'example.com'",
        "user.name == \"Jane Doe\" && user.preferredUsername.lowerAscii() == 'jane'",
        "'team-a:dev' in user.groups && size(user.groups) == 2 && user.groups.size() == 2",
        "user.groups.exists(g, g.matches('^team-[ab]:'))",
        "user.groups.all(g, g.contains(':')) && user.groups.exists_one(g, g.startsWith('team-a'))",
        "user.groups.filter(g, g.startsWith('team-a')).map(g, g.split(':')[1]) == ['dev']",
        "user.groups.map(g, g == 'team-b:ops', 'only:' + g) == ['only:team-b:ops']",
        "has(user.claims.locale) && user.claims.locale == 'de' && !has(user.claims.gender)",
        "user.claims.exists(c, c == 'locale') && user.claims['locale'] == 'de'",
        "client.id == 'grafana' && 'groups' in scopes && acr == 'urn:mfa'",
        r"user.groups.exists(g, g.matches(r'^team-\w+:ops$'))",
        "(user.email == 'x' ? 1 : 2) + 3 * int('4') == 14 && string(1) == '1' && -1 < 0",
    ] {
        assert_eq!(holds(text, &jane()), Ok(true), "{text}");
        assert_eq!(holds(&format!("!({text})"), &jane()), Ok(false), "{text}");
    }
}

#[test]
fn what_a_user_does_not_have_lets_nobody_in() {
    let nobody = Identity {
        user_id: "1".into(),
        email: None,
        email_verified: false,
        name: None,
        preferred_username: None,
        groups: Vec::new(),
        extra: BTreeMap::new(),
    };
    let missing = RunError::NoSuchKey("email".into());
    for text in ["user.email != 'eve@evil.example'", "!user.email.endsWith('@evil.example')"] {
        assert_eq!(holds(text, &nobody), Err(missing.clone()), "{text}");
        let condition = Condition::compile(text, Some("not you")).unwrap();
        let refused = condition.check(&facts(&nobody));
        assert_eq!(refused, Err(ConditionError::Failed(missing.clone())), "{text}");
    }
    assert_eq!(holds("!has(user.email) && !user.emailVerified", &nobody), Ok(true));
    let condition = Condition::compile("has(user.email)", Some("not you")).unwrap();
    assert_eq!(condition.check(&facts(&nobody)), Err(ConditionError::NotMet("not you".into())));
    assert_eq!(condition.check(&facts(&jane())), Ok(()));
}

#[test]
fn what_fails_while_it_runs_is_an_error_without_the_users_values() {
    for text in [
        "user.groups[7] == 'x'",
        "user.groups[-1] == 'x'",
        "1 / (size(scopes) - 2) == 1",
        "9223372036854775807 + size(scopes) > 0",
        "-(-9223372036854775807 - 1) == 0",
        "user.email + 1 == 'x'",
        "user.email < 7",
        "int(user.email) == 1",
        "user.email.split('') == []",
        "user.claims.locale.size != 0",
        "!has(user.claims.locale.size)",
        "user.claims[user.email] == 'x'",
        "user.groups.filter(g, g)[0] == 'x'",
        "size(7) == 1",
        "null",
    ] {
        let expression = compiled(text).unwrap();
        let failed = expression.holds(&facts(&jane())).unwrap_err().to_string();
        assert!(!failed.contains("jane") && !failed.contains("team-a"), "{text}: {failed}");
    }
}

#[test]
fn a_name_that_nobody_knows_is_refused_when_it_is_read() {
    let said = |text: &str| compiled(text).unwrap_err().to_string();
    assert_eq!(
        said("usr.email == 'x'"),
        "unknown variable usr: there are user, client, scopes, acr"
    );
    assert!(said("user.emial == 'x'").starts_with("user has no field emial: it has sub, userID"));
    assert!(said("user.email.domain == 'x'").starts_with("email has no field domain"));
    assert!(said("user.groups.exists(g, g.name == 'x')").contains("has no field name"));
    for forgotten in [
        "user.groups.filter(g, g == 'x').size != 0",
        "user.groups.map(g, g).size != 0",
        "[1].size != 0",
        "user.email.split('@').size != 0",
        "(true ? user.groups : []).size != 0",
        "'x'.size != 0",
        "has(user.groups.filter(g, g == 'x').size)",
        "[user.groups].all(g, g.size != 0)",
        "scopes.size != 0",
    ] {
        let refused = compiled(forgotten).unwrap_err();
        assert!(matches!(refused, CompileError::UnknownField { .. }), "{forgotten}: {refused}");
    }
    assert!(said("acr.x == 'x'").starts_with("acr has no field x"));
    assert!(said("user.email.upper() == 'X'").starts_with("unknown function upper"));
    assert!(
        said("timestamp('2026-01-01T00:00:00Z') < 1").starts_with("unknown function timestamp")
    );
    assert!(said("user.groups.exists(user, true)").contains("name of a variable"));
    assert!(said("user.email ==").starts_with("not CEL: "));
    assert!(said("").starts_with("not CEL: "));
    let acr = Expression::compile("acr == 'x'", &Facts::OF_CLAIMS).unwrap_err();
    assert_eq!(acr.to_string(), "unknown variable acr: there are user, client, scopes");
}

#[test]
fn patterns_are_compiled_when_they_are_read_and_bounded() {
    for text in [
        "user.email.matches(user.name)",
        "user.email.matches('(')",
        r"user.email.matches('(\\w{100}){90}')",
        "user.email.matches('a' + 'b')",
    ] {
        let refused = compiled(text).unwrap_err();
        assert!(matches!(refused, CompileError::Pattern(_)), "{text}: {refused}");
    }
    let many: Vec<_> = (0..9).map(|n| format!("user.email.matches('{n}')")).collect();
    assert_eq!(compiled(&many.join("||")).unwrap_err(), CompileError::TooComplex);
}

/// As much of a user as policies look at.
fn largest() -> Identity {
    Identity {
        groups: (0..1_024).map(|n| format!("{n:0>63}")).collect(),
        email: Some("a".repeat(1_000)),
        ..jane()
    }
}

#[test]
fn what_would_take_long_for_a_user_in_many_groups_is_refused() {
    let lists = "user.groups.exists(a, user.groups.exists(b, a == b))";
    let doubling = "[user.email+user.email+user.email+user.email].map(a, [a+a+a+a+a+a+a+a].map(b, [b+b+b+b+b+b+b+b].map(c, [c+c+c+c+c+c+c+c].map(d, [d+d+d+d+d+d+d+d].map(e, e+e+e+e)))))[0] == []";
    // 22,500 matches of a pattern of hundreds of states, over no user at all: minutes.
    let matching = format!(
        "[{0}].all(x, [{0}].all(y, !'{1}'.matches('^(?:[ab]?){{350}}[cd]')))",
        vec!["''"; 150].join(","),
        "a".repeat(900)
    );
    let below = "user.claims.a.all(x, x.all(y, user.groups.all(g, g != y)))";
    for text in [
        lists,
        doubling,
        &matching,
        below,
        "user.groups.all(g, g.matches('^(?:[ab]?){200}[cd]'))",
        "user.groups.all(g, g in user.groups)",
        "user.groups.map(a, user.groups.map(b, a + b)) == []",
        "user.groups.map(a, user.groups) == []",
        "[1,2,3,4,5,6,7,8].all(a, [1,2,3,4,5,6,7,8].all(b, [1,2,3,4,5,6,7,8].all(c, [1,2,3,4,5,6,7,8].all(d, user.groups.all(e, e != 'x')))))",
    ] {
        assert_eq!(compiled(text).unwrap_err(), CompileError::TooCostly, "{text}");
    }
}

#[test]
fn the_costliest_that_is_taken_ends_soon_for_the_largest_user() {
    let user = largest();
    for text in [
        "user.groups.filter(g, g.startsWith('0')).map(g, 'x' + g).size() == 1024",
        "user.groups.exists(g, ['a','b','c','d','e','f','g','h'].exists(a, g == 'team-' + a)) == false",
        "user.groups.all(g, g.matches('^0+[0-9]*$') && g.contains('0') && g.endsWith('') && g.lowerAscii() == g)",
        "['a','b','c','d','e','f'].exists(g, g in user.groups) == false",
        "user.groups.exists(g, ['a','b','c','d'].exists(s, g == s)) == false",
        "(user.groups + user.groups + user.groups).filter(g, g != 'x').size() == 3072",
        "user.groups.filter(g, g.startsWith('0')).map(g, g.split(':')[0]).all(g, g.size() == 63)",
        "user.groups.all(g, !g.matches('^(?:[0-9]?){30}[cd]'))",
        "user.groups.all(g, !g.matches('(?:0|00|000|0*)*[cd]'))",
        "user.email.split('b').all(a, user.email.split('b').all(b, user.email.split('b').all(c, a + b != c)))",
        "!user.email.matches('^(?:[ab]?){350}[cd]')",
    ] {
        let expression = compiled(text).unwrap();
        let began = Instant::now();
        assert_eq!(expression.holds(&facts(&user)), Ok(true), "{text}");
        let took = began.elapsed();
        println!("{took:?}: {text}");
        assert!(took < Duration::from_secs(5), "{took:?}: {text}");
    }
    for larger in [
        Identity { groups: vec![String::new(); 1_025], ..jane() },
        Identity { groups: vec!["x".repeat(513)], ..jane() },
        Identity { groups: vec!["x".repeat(500); 132], ..jane() },
    ] {
        assert_eq!(holds("true", &larger), Err(RunError::TooLarge));
    }
}

#[test]
fn no_text_ends_the_process_and_what_the_parser_cannot_bear_never_reaches_it() {
    let deep = |open: &str, close: &str, levels: usize| {
        format!("{}1{} == 1", open.repeat(levels), close.repeat(levels))
    };
    let mut texts = vec![
        "a".repeat(2_049),
        r"xr'\''+1+1+1+1 == 1".to_owned(),
        r"'\q'+1 == 1".to_owned(),
        "'''a''' == 'a'".to_owned(),
        "b'a' == b'a'".to_owned(),
        "1 // one\n== 1".to_owned(),
        "type{a: 1} == 1".to_owned(),
        "'never ends".to_owned(),
        "@result".to_owned(),
        "user.?email == 'x'".to_owned(),
        "{'a': 1}.a.b.c".to_owned(),
    ];
    for levels in [17, 150, 1_000] {
        texts.extend([
            deep("(", ")", levels),
            deep("[", "]", levels),
            deep("size(", ")", levels),
            deep("{1:", "}", levels),
            deep("-", "", levels),
            deep("!", "", levels),
            format!("1{} == 1", "+1".repeat(levels)),
            format!("user{}", ".a".repeat(levels)),
            format!("user{}", "[0]".repeat(levels)),
            format!("1{}", " in 1".repeat(levels)),
            format!("{}1", "true?1:".repeat(levels)),
            format!("true{}", "&&true".repeat(levels)),
            format!("{}true{}", "[1].all(x,".repeat(levels), ")".repeat(levels)),
        ]);
    }
    for text in texts {
        // Whatever comes of it, it comes, and on the stack that tests and servers have.
        if let Ok(expression) = compiled(&text) {
            let _ = expression.holds(&facts(&jane()));
        }
    }
    assert_eq!(compiled(&deep("(", ")", 17)).unwrap_err(), CompileError::TooComplex);
    assert_eq!(
        compiled(&format!("1{} == 1", "+1".repeat(200))).unwrap_err(),
        CompileError::TooComplex
    );
    for unsupported in ["'''a''' == 'a'", r"'\q' == 'q'", "b'a' == b'a'", r"xr'\' == 1"] {
        let refused = compiled(unsupported).unwrap_err();
        assert!(matches!(refused, CompileError::Unsupported(_)), "{unsupported}: {refused}");
    }
}

/// The bounds are on texts; what a text takes of the stack is known of those that just pass.
#[test]
fn the_deepest_texts_that_are_taken_fit_the_stack_of_any_thread() {
    let deep = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(16), close.repeat(16))
    };
    let sum = |terms: usize| format!("1{}", "+1".repeat(terms));
    for text in [
        deep("(", "1", ")") + " == 1",
        deep("[", "1", "]") + " == []",
        deep("{1:", "1", "}") + " == {}",
        deep("size(", "''", ")") + " == 1",
        deep("!(", "true", ")"),
        deep("1+(", &sum(120), ")") + " == 1",
        deep("(1 in [", "1", "])") + " == 1",
        deep("(true||true&&1<1+1*-", "1", ")"),
        deep("(true?", &sum(100), ":1)"),
        deep("[1].all(x,", "true", ")"),
        deep("[1][", &sum(120), "]"),
    ] {
        if let Ok(expression) = compiled(&text) {
            let _ = expression.holds(&facts(&jane()));
        }
    }
    assert_eq!(holds(&(deep("(", "1", ")") + " == 1"), &jane()), Ok(true));
}

#[test]
fn a_claim_is_a_string_a_bool_an_int_strings_or_a_map_of_those() {
    let claim =
        |text: &str| Expression::compile(text, &Facts::OF_CLAIMS).unwrap().claim(&facts(&jane()));
    assert_eq!(claim("null"), Ok(None));
    assert_eq!(claim("has(user.claims.gender) ? user.claims.gender : null"), Ok(None));
    assert_eq!(claim("user.email"), Ok(Some(json!("jane@example.com"))));
    assert_eq!(claim("user.emailVerified"), Ok(Some(json!(true))));
    assert_eq!(claim("size(user.groups)"), Ok(Some(json!(2))));
    assert_eq!(claim("user.groups.map(g, g.split(':')[0])"), Ok(Some(json!(["team-a", "team-b"]))));
    assert_eq!(
        claim("{'n': 1, 'g': user.groups}"),
        Ok(Some(json!({"g": ["team-a:dev", "team-b:ops"], "n": 1})))
    );
    for text in ["1.5", "[1]", "[['a']]", "{'a': {'b': 'c'}}", "{1: 'a'}", "{'a': null}"] {
        assert!(matches!(claim(text), Err(RunError::WrongType(_))), "{text}");
    }
    let large = Expression::compile("user.groups", &Facts::OF_CLAIMS).unwrap();
    assert!(matches!(large.claim(&facts(&largest())), Err(RunError::WrongType(_))));
}

/// An answer as large as is looked at: so many objects, each with a name.
fn largest_answer() -> serde_json::Map<String, serde_json::Value> {
    let objects: Vec<_> = (0..1_300).map(|n| json!({"name": format!("group-{n:0>30}")})).collect();
    json!({"a": objects}).as_object().unwrap().clone()
}

#[test]
fn what_would_take_long_for_a_large_answer_is_refused_however_it_is_wrapped() {
    for text in [
        "upstream.a.all(x, x.all(p, x.all(q, x.all(r, true))))",
        "(upstream.a + ['x']).all(x, x.all(p, x.all(q, x.all(r, true))))",
        "(['x'] + upstream.a).all(x, x.all(p, x.all(q, x.all(r, true))))",
        "(user.groups + upstream.a).all(x, x.all(p, x.all(q, x.all(r, true))))",
        "(user.emailVerified ? upstream.a : ['x']).all(x, x.all(p, x.all(q, x.all(r, true))))",
        "(user.emailVerified ? 'x' : upstream.a).all(x, x.all(p, x.all(q, x.all(r, true))))",
        "[upstream.a, 'x'].all(x, x.all(p, x.all(q, x.all(r, true))))",
        "{'a': upstream.a, 'b': 'x'}.a.all(p, {'a': upstream.a}.a.all(q, true))",
        "upstream['a'].all(p, upstream['a'].all(q, true))",
        "upstream.a.filter(x, true).all(x, x.all(p, x.all(q, x.all(r, true))))",
        "upstream.a.map(x, x).all(x, x.all(p, x.all(q, x.all(r, true))))",
    ] {
        let compiled = Expression::compile(text, &Answer::VARIABLES);
        assert_eq!(compiled.unwrap_err(), CompileError::TooCostly, "{text}");
    }
    let by_index = "user['claims']['x'].all(a, user['claims']['x'].all(b, user['claims']['x'].all(c, user['claims']['x'].all(d, true))))";
    for text in [by_index, "user['groups'].all(a, user['groups'].all(b, a == b))"] {
        assert_eq!(compiled(text).unwrap_err(), CompileError::TooCostly, "{text}");
    }
}

#[test]
fn the_costliest_that_is_taken_ends_soon_for_the_largest_answer() {
    let (user, raw) = (jane(), largest_answer());
    let scope = Answer { identity: &user, raw: &raw }.scope().unwrap();
    for text in [
        "upstream.a.all(x, x.name.startsWith('group-') && has(x.name) && !has(x.other))",
        "(user.groups + upstream.a.map(x, x.name)).filter(n, n.matches('^group-')).size() == 1300",
        "upstream.a.exists(x, ['a', 'b', 'c', 'd'].exists(n, n == x.name)) == false",
        "upstream.a.filter(x, x.name.contains('7')).map(x, x.name.split('-')[1]).size() > 100",
        "size(user['groups']) == 2 && user['email'] == 'jane@example.com'",
    ] {
        let expression = Expression::compile(text, &Answer::VARIABLES).unwrap();
        let began = Instant::now();
        assert_eq!(expression.holds_in(&scope), Ok(true), "{text}");
        let took = began.elapsed();
        println!("{took:?}: {text}");
        assert!(took < Duration::from_secs(5), "{took:?}: {text}");
    }
    let larger = json!({"a": vec![0; 4_096]});
    let larger = Answer { identity: &user, raw: larger.as_object().unwrap() }.scope();
    assert_eq!(larger.unwrap_err(), RunError::TooLarge);
}
