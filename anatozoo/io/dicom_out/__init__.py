"""DICOM objects that say what was found in DICOM images: values in, data sets out."""
