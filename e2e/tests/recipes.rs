//! What the documentation says to type is typed: the marked blocks of every page in `docs/`, in their order, in one
//! shell a page, against a running Claviger.
//!
//! ```text
//! <!-- run, prints: TEXT -->        the sh block below is run, must end well, and its output must hold TEXT
//! <!-- sign in: ASK, ANSWER -->     the variable ASK is opened in a browser, a user signs in, and ANSWER becomes the
//!                                   URL they end at
//! ```
//!
//! `ISSUER`, `CLIENT_ID`, `CLIENT_SECRET`, `REDIRECT_URI` and `CURL_CA_BUNDLE` are set, of the client in
//! `examples/by-hand/`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::installation::repository;
use claviger_testkit::process::tied;
use claviger_testkit::scene::{LOCAL_USER, Manifests};
use claviger_testkit::{Browser, ControlPlane, Directory, Installation, Scene};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// Runs before a page's blocks: 3 is for us, what the blocks print goes to a file, and whoever fails says where.
const PROLOGUE: &str = r#"set -euo pipefail
exec 3>&1
where=start
trap '[ $? = 0 ] || { echo "$where failed, having printed:"; cat printed; } >&2' EXIT
"#;

/// One marked place of a page.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Run { line: usize, prints: String, block: String },
    SignIn { line: usize, ask: String, answer: String },
}

/// The marked places of a page, in their order.
fn steps(page: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let lines: Vec<_> = page.lines().collect();
    for (n, text) in lines.iter().enumerate() {
        let Some(mark) = text.strip_prefix("<!-- ").and_then(|text| text.strip_suffix(" -->"))
        else {
            continue;
        };
        let line = n + 1;
        if let Some(prints) = mark.strip_prefix("run, prints: ") {
            ensure!(lines.get(line) == Some(&"```sh"), "line {line}: no sh block below the mark");
            let block = lines[line + 1..].iter().take_while(|line| **line != "```");
            let block = block.copied().collect::<Vec<_>>().join("\n");
            steps.push(Step::Run { line, prints: prints.to_owned(), block });
        } else if let Some(variables) = mark.strip_prefix("sign in: ") {
            let (ask, answer) = variables.split_once(", ").context("two variables")?;
            let (ask, answer) = (ask.to_owned(), answer.to_owned());
            steps.push(Step::SignIn { line, ask, answer });
        } else {
            bail!("line {line}: {mark:?} is no mark this test knows");
        }
    }
    Ok(steps)
}

/// All of them as one script.
fn script(page: &str, steps: &[Step]) -> Result<String> {
    let mut script = PROLOGUE.to_owned();
    for step in steps {
        match step {
            Step::Run { line, prints, block } => {
                let quoted = prints.replace('\'', r"'\''");
                writeln!(script, "where={page}:{line}\n{{\n{block}\n}} >printed 2>&1")?;
                writeln!(script, "grep -qF -- '{quoted}' printed")?;
            }
            Step::SignIn { line, ask, answer } => {
                writeln!(
                    script,
                    "where={page}:{line}\necho \"${ask}\" >&3\nIFS= read -r {answer}"
                )?;
            }
        }
    }
    Ok(script)
}

async fn scene() -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane).await?;
    let more = Manifests::of_example("by-hand")?;
    let scene = Scene::start_in(here, Directory::None, |all| all.extend(more)).await?;
    scene.installation().wait_for("oauth2client/by-hand", "Ready").await?;
    Ok(scene)
}

/// Types a page's blocks; returns how many there were.
async fn follow(scene: &Scene, name: &str, page: &str) -> Result<usize> {
    let steps = steps(page).with_context(|| name.to_owned())?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("page.sh"), script(name, &steps)?)?;
    let mut bash: Command = tied("bash").into();
    let mut bash = bash
        .arg("page.sh")
        .current_dir(folder.path())
        .env("ISSUER", scene.issuer())
        .env("CLIENT_ID", "by-hand")
        .env("CLIENT_SECRET", scene.generated_secret("by-hand-client").await?)
        .env("REDIRECT_URI", "http://localhost:8000/callback")
        .env("CURL_CA_BUNDLE", scene.installation().authority_file()?)
        .env("no_proxy", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = bash.stdin.take().context("a piped child has an input")?;
    let output = bash.stdout.take().context("a piped child has an output")?;
    let mut asked = BufReader::new(output).lines();
    while let Some(url) = asked.next_line().await? {
        let browser = Browser::new(scene.installation().authority().certificate_pem())?;
        let landed = browser.sign_in(&url.parse()?, LOCAL_USER).await?;
        input.write_all(format!("{landed}\n").as_bytes()).await?;
    }
    ensure!(bash.wait().await?.success(), "{name} does not do what it says; see above");
    Ok(steps.iter().filter(|step| matches!(step, Step::Run { .. })).count())
}

fn pages(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            pages.push((format!("docs/{name}"), std::fs::read_to_string(&path)?));
        }
    }
    pages.sort();
    Ok(pages)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_documentation_says_to_type_does_what_it_says() -> Result<()> {
    let pages = pages(&repository().join("docs"))?;
    let mut recipes = 0;
    for (name, page) in pages.iter().filter(|(_, page)| page.contains("\n<!-- run")) {
        let scene = scene().await?;
        let count = follow(&scene, name, page).await?;
        println!("{name}: {count} recipes");
        recipes += count;
    }
    ensure!(recipes >= 10, "only {recipes} recipes are marked");
    Ok(())
}

#[test]
fn marks_are_found_with_their_blocks_and_a_mark_that_is_none_is_an_error() -> Result<()> {
    let page =
        "text\n<!-- run, prints: it's -->\n```sh\necho a\necho b\n```\n<!-- sign in: a, b -->\n";
    let found = steps(page)?;
    assert_eq!(
        found,
        [
            Step::Run { line: 2, prints: "it's".into(), block: "echo a\necho b".into() },
            Step::SignIn { line: 7, ask: "a".into(), answer: "b".into() },
        ]
    );
    assert!(script("page", &found)?.contains(r"grep -qF -- 'it'\''s' printed"));
    for bad in ["<!-- run, prints: x -->\ntext", "<!-- runs -->"] {
        assert!(steps(bad).is_err(), "{bad}");
    }
    Ok(())
}
