//! The list of cores: takes it, gives a panic where it does not tell them apart.

use cotangent_build::Core;
use cotangent_build::cores::CORES;
use std::collections::BTreeSet;

/// A name that two cores had would choose one of them in silence.
#[test]
fn each_name_is_of_one_core() {
    let names: Vec<&str> = CORES.into_iter().flat_map(|c| [&[c.name()], c.aliases()].concat()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(CORES.into_iter().all(|c| Core::named(c.name()) == Some(c)));
    assert_eq!(Core::named("znver5"), Some(&Core::ZEN_5));
    assert_eq!(Core::named("native"), None);
}
