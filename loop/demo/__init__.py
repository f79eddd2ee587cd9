"""What `loop demo` and the tests need: a throwaway Label Studio, drawn chest images, a scripted annotator."""
