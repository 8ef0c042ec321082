(component
  (component $inner (component (component (component)))
    (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func (export "f") (canon lift (core func $i "f"))))
  (instance $i (instantiate $inner))
  (alias export $i "f" (func $f))
  (export "f" (func $f)))
