"""Names of the point-wise products that the compiled loops know; `spectral_forms.PRODUCTS` states them."""

PRODUCTS = {
    "polynomial": 0,
    "catalysis": 1,
    "steepness": 2,
    "stresses": 3,
    "lamb": 4,
    "bernoulli": 5,
    "dyads": 6,
}
