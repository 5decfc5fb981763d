//! Every function of the host that a library can call runs under `guard_host`.

use std::path::PathBuf;

use super::own;

/// What runs its body under `guard_host`.
const GUARDS: [&str; 4] = ["guard_host(", "gives(", "lists(", "write_down("];

fn source(path: &str) -> PathBuf {
    own("src").join(path)
}

/// Names of the functions that begin with `head` and have no guard in their body, which ends with `end`.
fn bare(text: &str, (head, end): (&str, &str)) -> (usize, Vec<String>) {
    let functions: Vec<&str> = text.split(head).skip(1).collect();
    let is_bare = |function: &&&str| {
        let body = function.split(end).next().unwrap();
        !GUARDS.iter().any(|guard| body.contains(guard))
    };
    let name = |function: &&str| function.split('(').next().unwrap().to_string();
    (functions.len(), functions.iter().filter(is_bare).map(name).collect())
}

#[test]
fn functions_of_the_host_in_c_are_guarded() {
    let mut files = vec![source("c/messages.rs")];
    let folder = std::fs::read_dir(source("c/host_side")).unwrap();
    files.extend(folder.map(|entry| entry.unwrap().path()));
    let mut count = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (functions, bare) = bare(&text, ("\nunsafe extern \"C\" fn ", "\n}\n"));
        assert!(bare.is_empty(), "{}: {bare:?}", file.display());
        count += functions;
    }
    // Of wan_host, wan_ops, wan_options, wan_schedule, wan_model and wan_answer.
    assert_eq!(count, 4 + 12 + 3 + 3 + 1 + 1);
}

#[test]
fn methods_of_the_host_in_rust_are_guarded() {
    let text = std::fs::read_to_string(source("epoch1/host_side.rs")).unwrap();
    for (object, methods) in [("AbiDenoise for LocalModel", 1), ("AbiOps for LocalOps", 13)] {
        let (_, rest) = text.split_once(&format!("impl {object}")).unwrap();
        let body = rest.split("\n}\n").next().unwrap();
        let (count, bare) = bare(body, ("\n    fn ", "\n    }\n"));
        assert!(bare.is_empty(), "{object}: {bare:?}");
        assert_eq!(count, methods, "{object}");
    }
}
