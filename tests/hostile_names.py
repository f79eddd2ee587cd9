"""A name that would run, fetch, turn the text round or start a formula, if anything let it."""

HOSTILE = '<script>alert("x")</script>&\'"><img src=http://evil.example/x>\u202e$x^2$'
