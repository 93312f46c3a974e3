"""The corpus: conversion of a source into one UTF-8 text, which is cut into parts."""
