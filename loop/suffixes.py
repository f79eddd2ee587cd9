"""How files of images end."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
