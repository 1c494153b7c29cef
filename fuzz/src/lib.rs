//! Fuzz targets of Varve as plain functions.
