//! What only a program says: takes `wrt`, `checkpoint` and `functions` of a spec, gives them with names resolved.

use super::*;
use crate::spec::ProgramSpec;

impl Resolver<'_> {
    /// After `forward` has been read.
    pub(super) fn program(&mut self, spec: &ProgramSpec) -> Program {
        let inputs = self.op.inputs();
        let lists = [("wrt", &spec.wrt), ("functions", &spec.functions)];
        lists.into_iter().for_each(|(key, names)| self.once(key, names.as_ref().map_or(&[], |names| &names.value)));
        let wrt = match &spec.wrt {
            None => inputs.clone(),
            Some(names) => names.value.iter().filter_map(|name| self.input(name, &inputs)).collect(),
        };
        if let Some(names) = spec.wrt.as_ref().filter(|names| names.value.is_empty()) {
            let d = Diagnostic::error(Code::BadProgram, names.span, "`wrt` names no input", "nothing to derive by");
            self.out.push(d.help("leave `wrt` out to derive by all inputs"));
        }
        let locals = self.op.with_role(Role::Local);
        let mut checkpoints = BTreeMap::new();
        for (name, how) in &spec.checkpoint {
            let Some(local) = locals.iter().copied().find(|t| self.op.tensor(*t).name == name.value) else {
                let message = format!("`{}` is no local of `forward`", name.value.escape_debug());
                let names: Vec<&str> = locals.iter().map(|t| self.op.tensor(*t).name.as_str()).collect();
                let d = Diagnostic::error(Code::BadProgram, name.span, message, "unknown local");
                self.out.push(if self.op.outputs().iter().any(|t| self.op.tensor(*t).name == name.value) {
                    d.help(format!("`{}` is an output, which its caller keeps: leave it out here", name.value))
                } else {
                    d.did_you_mean(&name.value, name.span, &names, "locals")
                });
                continue;
            };
            let checkpoint = match how.as_str() {
                "save" => Checkpoint::Save,
                "recompute" => Checkpoint::Recompute,
                other => {
                    let message = format!("`{}` says nothing of `{}`", other.escape_debug(), name.value);
                    let d = Diagnostic::error(Code::BadProgram, how.span, message, "unknown word");
                    self.out.push(d.help("write `save`, or `recompute` to compute it again on the way back"));
                    continue;
                }
            };
            checkpoints.insert(local, checkpoint);
        }
        let asked = spec.functions.as_ref().map(|names| names.value.iter().filter_map(|n| self.entry(n)).collect());
        Program { wrt, checkpoints, asked, functions: Vec::new() }
    }

    /// No name of a list stands there twice: what is made of it would be made twice.
    fn once(&mut self, key: &str, names: &[At<String>]) {
        for (n, name) in names.iter().enumerate() {
            if let Some(first) = names[..n].iter().find(|first| first.value == name.value) {
                let message = format!("`{}` stands twice in `{key}`", name.value.escape_debug());
                let d = Diagnostic::error(Code::Duplicate, name.span, message, "again here");
                self.out.push(d.label(first.span, "first here").help("leave one of them out"));
            }
        }
    }

    fn input(&mut self, name: &At<String>, inputs: &[TensorId]) -> Option<TensorId> {
        let found = inputs.iter().copied().find(|t| self.op.tensor(*t).name == name.value);
        if found.is_none() {
            let message = format!("`{}` is not an input", name.value.escape_debug());
            let names: Vec<&str> = inputs.iter().map(|t| self.op.tensor(*t).name.as_str()).collect();
            let d = Diagnostic::error(Code::BadProgram, name.span, message, "no such input");
            self.out.push(d.did_you_mean(&name.value, name.span, &names, "inputs"));
        }
        found
    }

    fn entry(&mut self, name: &At<String>) -> Option<Entry> {
        let Some(entry) = Entry::ALL.into_iter().find(|e| e.name() == name.value) else {
            let message = format!("a program has no function `{}`", name.value.escape_debug());
            let names: Vec<&str> = Entry::ALL.iter().map(|e| e.name()).collect();
            let d = Diagnostic::error(Code::BadProgram, name.span, message, "unknown function");
            self.out.push(d.did_you_mean(&name.value, name.span, &names, "functions"));
            return None;
        };
        if !entry.is_of(&self.op) {
            let message = format!("`{}` is of a single output without axes", entry.name());
            let d = Diagnostic::error(Code::BadProgram, name.span, message, "not of this program");
            self.out.push(d.help("`jvp`, `vjp` and `jacobian` are of any outputs"));
            return None;
        }
        Some(entry)
    }
}
