//! The reference values: takes the folders `cases` and `edges`, gives their content and the names of the instances made
//! from it. Shared by the build script, which makes the kernels, and the tests, which look for them.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The line at which the list of instances begins: the last key of a spec.
pub const INSTANCES: &str = "\ninstances:";

/// The scalar types of every case.
pub const SCALARS: [&str; 2] = ["f32", "f64"];

/// How the tensors of an instance are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// As the op declares them.
    Declared,
    /// In another order.
    Other,
}

/// One case of a reference file.
pub struct Case {
    /// The op.
    pub op: String,
    /// The name in the file.
    pub name: String,
    /// The extents of each axis.
    pub axes: BTreeMap<String, Value>,
    /// The parameters.
    pub params: BTreeMap<String, Value>,
    /// The whole case: `inputs`, `tangents`, `outputs`, `jvp`, `cotangents` and `vjp`.
    pub values: Value,
}

impl Case {
    /// The name of its instance: the case's name in lower case, what is not a letter or digit as `_`, and the scalar
    /// type.
    pub fn instance(&self, scalar: &str, layout: Layout) -> String {
        let lower = self.name.to_ascii_lowercase();
        let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let layout = if layout == Layout::Other { "_stored" } else { "" };
        format!("{}{layout}_{scalar}", words.join("_"))
    }

    /// The tensors of a section by name, each row-major in the declared order.
    pub fn tensors(&self, section: &str) -> BTreeMap<String, Vec<f64>> {
        let numbers =
            |t: &Value| t["data"].as_array().expect("data").iter().map(|v| v.as_f64().expect("a number")).collect();
        object(&self.values[section]).into_iter().map(|(name, t)| (name, numbers(&t))).collect()
    }
}

/// Every case of every file of the folder, in the order of the files.
pub fn all(folder: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for (op, text) in texts(folder, "json") {
        let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{op}.json: {e}"));
        for values in file["cases"].as_array().expect("cases") {
            cases.push(Case {
                op: op.clone(),
                name: values["name"].as_str().expect("name").into(),
                axes: object(&values["axes"]),
                params: object(&values["params"]),
                values: values.clone(),
            });
        }
    }
    cases
}

/// The lists of further instances, by op.
pub fn edges(folder: &Path) -> Vec<(String, String)> {
    texts(folder, "yaml")
}

fn object(v: &Value) -> BTreeMap<String, Value> {
    v.as_object().expect("a mapping").iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn texts(folder: &Path, extension: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == extension));
    paths.sort();
    let stem = |p: &Path| p.file_stem().expect("a file").to_string_lossy().into_owned();
    let read = |p: &Path| std::fs::read_to_string(p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
    paths.iter().map(|p| (stem(p), read(p))).collect()
}
