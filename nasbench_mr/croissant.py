"""A release in MLCommons' Croissant format (version 1.0), as `mlcroissant` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasbench_mr.release import Release

#: https://docs.mlcommons.org/croissant/docs/croissant-spec.html, appendix 1.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def describe(release: Release) -> dict[str, Any]:
    """Return croissant.json of a release: a record set for every table and every file of curves or costs."""
    listed = release.configurations
    about = release.about
    described: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": release.name,
        "version": release.version.partition("-")[0],
        "description": about.get("description", about.get("title", release.name)),
        "license": about.get("license", "unknown"),
        "citeAs": about.get("citation", release.name),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file,
                "name": file,
                "contentUrl": file,
                "contentSize": f"{release.files[file]['bytes']} B",
                "encodingFormat": "application/x-parquet",
                "sha256": release.files[file]["sha256"],
            }
            for file in listed.values()
        ],
        "recordSet": [_record_set(release, name, file) for name, file in listed.items()],
    }
    # Recommended by the format, and not to be made up.
    if "homepage" in about:
        described["url"] = about["homepage"]
    if "published" in about:
        described["datePublished"] = about["published"]
    return described


def _record_set(release: Release, name: str, file: str) -> dict[str, Any]:
    import pyarrow.parquet as pq

    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{field.name}",
            "name": field.name,
            "description": f"column {field.name}",
            "dataType": {"double": "sc:Float", "float": "sc:Float", "string": "sc:Text"}.get(
                str(field.type), "sc:Integer"
            ),
            "source": {"fileObject": {"@id": file}, "extract": {"column": field.name}},
        }
        for field in pq.read_schema(release.path / file)
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}
