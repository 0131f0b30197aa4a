//! What ships inside the compiler: takes nothing, gives the specs of the library, the sources of the runtime and the
//! templates, each with its path in its folder (slashes on every host), in the order of the paths.

include!(concat!(env!("OUT_DIR"), "/shipped.rs"));
