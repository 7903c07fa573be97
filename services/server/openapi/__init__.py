"""The OpenAPI document of what is served: made from the routes themselves and from the structs that decode their bodies."""
