"""Pictures in tar files of many, on this machine or in an object store."""
