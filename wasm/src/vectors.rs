//! The frozen vectors of native tests, checked where the package runs.

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn report(message: &str);
}

/// Checks them all, and says which there were. A panic, after its message is on the console: one has moved.
#[wasm_bindgen]
pub fn vectors() -> Vec<String> {
    std::panic::set_hook(Box::new(|info| report(&info.to_string())));
    foreshore::vectors::check().into_iter().map(str::to_owned).collect()
}
